"""Joins an exchange to a parser: a model's text becomes content, reasoning and tool calls, choice by choice."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal

from mlx_host._host.parser_factory import Verbatim, make_parser
from mlx_host._host.parser_selection import Parsers
from mlx_host._host.reply import Exchange
from mlx_host._host.served_model import ServedModel
from mlx_host._host.unparsed_markup import Leftovers, Telltales
from mlx_host.events import ChoiceFinished, Event, Finished, Logprobs, Progress, Started, StopReason, Text
from mlx_host.parsing import Content, Marker, Parser, Part, Reasoning, ToolCall
from mlx_host.requests import ChatRequest

FinishReason = Literal["stop", "length", "tool_calls"]
Shown = Content | Reasoning | ToolCall


@dataclass(frozen=True, slots=True)
class Delta:
    """What was added to a choice; neighbouring parts are of different kinds, calls have ids."""

    choice: int
    parts: list[Shown]
    logprobs: tuple[Logprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class ChoiceDone:
    """A choice is complete; `stop` is the stop string that ended it, if one did."""

    choice: int
    reason: FinishReason
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """All choices are complete; the tokens are those of all of them, `reasoning_tokens` of `completion_tokens`.

    `warning` says that a call or thinking was left in the content, and which parser to try.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    warning: str | None = None
    reasoning_tokens: int = 0


AnswerEvent = Started | Progress | Delta | ChoiceDone | Done


class Choice:
    """One answer being read."""

    def __init__(
        self, index: int, parser: Parser, new_call_id: Callable[[], str], one_call: bool, leftovers: Leftovers
    ) -> None:
        self.index = index
        self.reasoning_tokens = 0
        self._unread_tokens = 0
        self.called = False
        self.leftovers = leftovers
        self._ids: set[str] = set()
        self._parser = parser
        self._new_call_id = new_call_id
        self.one_call = one_call

    def read(self, texts: list[Text]) -> list[Shown]:
        if isinstance(self._parser, Verbatim):
            return self._show(self._parser.feed("".join([text.text for text in texts])))
        parts: list[Part] = []
        for text in texts:
            more = self._parser.feed(text.text)
            self._count(text.tokens, more)
            parts += more
        return self._show(parts)

    def finish(self) -> list[Shown]:
        parts = self._parser.finish()
        self._count(0, parts)
        return self._show(parts)

    def _count(self, tokens: int, parts: list[Part]) -> None:
        """Count tokens as reasoning if that is what is read next; those of a marker go with what follows it."""
        self._unread_tokens += tokens
        for part in parts:
            if isinstance(part, Shown):
                self.reasoning_tokens += self._unread_tokens if isinstance(part, Reasoning) else 0
                self._unread_tokens = 0
                break

    @property
    def over(self) -> bool:
        """Whether the one call that was allowed has been made."""
        return self.called and self.one_call

    def _show(self, parts: list[Part]) -> list[Shown]:
        shown: list[Shown] = []
        for part in parts:
            if self.over:
                break
            last = shown[-1] if shown else None
            match part:
                case Marker():
                    pass
                case ToolCall():
                    self.called = True
                    shown.append(ToolCall(part.name, part.arguments, part.source, self._id(part)))
                case Content(text) if isinstance(last, Content):
                    self.leftovers.look(text)
                    shown[-1] = Content(last.text + text)
                case Reasoning(text) if isinstance(last, Reasoning):
                    shown[-1] = Reasoning(last.text + text)
                case _:
                    if isinstance(part, Content):
                        self.leftovers.look(part.text)
                    if part.text:
                        shown.append(part)
        return shown

    def _id(self, call: ToolCall) -> str:
        # A model that writes ids itself may repeat one; a client could not tell the results apart.
        id = call.id if call.id and call.id not in self._ids else self._new_call_id()
        self._ids.add(id)
        return id


class Reader:
    """Turns a model's events into an answer's events; the engine's batches go in, batches come out."""

    def __init__(self, request: ChatRequest, parsers: Parsers, telltales: Telltales) -> None:
        self._request = request
        self._parsers = parsers
        self._telltales = telltales
        self._choices: dict[int, Choice] = {}
        self._started: Started | None = None
        self._tokens = self._unwanted = self._reasoning_tokens = 0
        self.over = False
        self.called = False
        self.warning: str | None = None

    def take(self, events: list[Event]) -> list[AnswerEvent]:
        """Read what the model said; neighbouring text of a choice becomes one Delta."""
        out: list[AnswerEvent] = []
        pieces: dict[int, list[Text]] = {}
        for event in events:
            match event:
                case Text(choice=choice):
                    pieces.setdefault(choice, []).append(event)
                case Started():
                    self._start(event)
                    out.append(event)
                case ChoiceFinished(reason, choice, stop):
                    self._flush(pieces, out)
                    self._finish(choice, reason, stop, out)
                case Finished():
                    self._flush(pieces, out)
                    for choice in list(self._choices):
                        self._finish(choice, event.reason, event.stop, out)
                    self._tokens = max(self._tokens, event.completion_tokens - self._unwanted)
                case Progress():
                    out.append(event)
        self._flush(pieces, out)
        started = self._started
        if started is not None and not self._choices and not self.over:
            self.over = True
            tokens = (started.prompt_tokens, started.cached_tokens, self._tokens)
            out.append(Done(*tokens, self.warning, self._reasoning_tokens))
        return out

    def _start(self, started: Started) -> None:
        self._started = started
        family = self._parsers.tools or self._parsers.reasoning or Verbatim
        for index in range(self._request.n):
            parser = make_parser(self._parsers, self._request, started.prompt_tail)
            one_call = not self._request.parallel_tool_calls
            leftovers = Leftovers(self._telltales)
            self._choices[index] = Choice(index, parser, family.new_call_id, one_call, leftovers)

    def _flush(self, pieces: dict[int, list[Text]], out: list[AnswerEvent]) -> None:
        for index, texts in pieces.items():
            choice = self._choices.get(index)
            # Where the first call is the end, the pieces behind it must not count, however they came together.
            for group in [[text] for text in texts] if choice is not None and choice.one_call else [texts]:
                tokens = sum(text.tokens for text in group)
                if choice is None or choice.over:
                    self._unwanted += tokens
                    continue
                self._tokens += tokens
                self._read(choice, group, out)
        pieces.clear()

    def _read(self, choice: Choice, texts: list[Text], out: list[AnswerEvent]) -> None:
        parts = choice.read(texts)
        logprobs = tuple([lp for text in texts for lp in text.logprobs])
        if parts or logprobs:
            out.append(Delta(choice.index, parts, logprobs))
        if choice.over:
            self._end(choice, "tool_calls", out)

    def _finish(self, index: int, reason: StopReason, stop: str | None, out: list[AnswerEvent]) -> None:
        choice = self._choices.get(index)
        if choice is None:
            return
        if parts := choice.finish():
            out.append(Delta(index, parts))
        # A call does not change that the answer was cut off.
        self._end(choice, "tool_calls" if choice.called and reason == "stop" else reason, out, stop)

    def _end(self, choice: Choice, reason: FinishReason, out: list[AnswerEvent], stop: str | None = None) -> None:
        self.called = self.called or choice.called
        self._reasoning_tokens += choice.reasoning_tokens
        if choice.leftovers.found is not None:
            reading = (self._parsers.reasoning, self._parsers.tools)
            self.warning = self._telltales.advice(choice.leftovers.found, reading)
        del self._choices[choice.index]
        out.append(ChoiceDone(choice.index, reason, stop))


async def answer(
    exchange: Exchange, request: ChatRequest, model: ServedModel
) -> AsyncGenerator[list[AnswerEvent], None]:
    """Answer a chat request: batches of Started, then Delta and ChoiceDone for each choice, then Done."""
    async with exchange:
        # Not before: while the model loads, nobody knows what it calls for.
        reader = Reader(request, model.parsers, model.telltales)
        async for events in exchange:
            batch = reader.take(events)
            if reader.over:
                exchange.outcome = "tool_calls" if reader.called and exchange.outcome != "length" else exchange.outcome
                exchange.outcome = exchange.outcome or "stop"
                exchange.warning = reader.warning
            if batch:
                yield batch
            if reader.over:
                return

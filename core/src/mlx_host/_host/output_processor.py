"""Processes a chat request's output: the model's text becomes content, reasoning and tool calls, by choice."""

from __future__ import annotations

from collections.abc import Callable

from mlx_host._host.parser_factory import Verbatim, make_parser
from mlx_host._host.parser_selection import ParserSelection
from mlx_host._host.unparsed_markup import Leftovers, Telltales
from mlx_host.api import ChatEvent, ChoiceCompleted, ChoiceDelta, FinishReason, OutputCompleted, VisiblePart
from mlx_host.events import ChoiceFinished, Event, Finished, Progress, Started, StopReason, TextDelta
from mlx_host.parsing import Content, Marker, Parser, Part, Reasoning, ToolCall
from mlx_host.requests import ChatRequest


class ChoiceState:
    """The state of one choice."""

    def __init__(
        self, index: int, parser: Parser, new_call_id: Callable[[], str], one_call: bool, leftovers: Leftovers
    ) -> None:
        self.index = index
        self.reasoning_tokens = 0
        self._pending_tokens = 0
        self.has_tool_calls = False
        self.leftovers = leftovers
        self._ids: set[str] = set()
        self._parser = parser
        self._new_call_id = new_call_id
        self.one_call = one_call

    def parse(self, texts: list[TextDelta]) -> list[VisiblePart]:
        if isinstance(self._parser, Verbatim):
            return self._visible(self._parser.feed("".join([text.text for text in texts])))
        parts: list[Part] = []
        for text in texts:
            more = self._parser.feed(text.text)
            self._count(text.token_count, more)
            parts += more
        return self._visible(parts)

    def finish(self) -> list[VisiblePart]:
        parts = self._parser.finish()
        self._count(0, parts)
        return self._visible(parts)

    def _count(self, tokens: int, parts: list[Part]) -> None:
        """Attribute tokens to the next visible part; those of a marker belong to what follows it."""
        self._pending_tokens += tokens
        for part in parts:
            if isinstance(part, VisiblePart):
                self.reasoning_tokens += self._pending_tokens if isinstance(part, Reasoning) else 0
                self._pending_tokens = 0
                break

    @property
    def finished(self) -> bool:
        """Whether the only allowed tool call has been made."""
        return self.has_tool_calls and self.one_call

    def _visible(self, parts: list[Part]) -> list[VisiblePart]:
        visible: list[VisiblePart] = []
        for part in parts:
            if self.finished:
                break
            last = visible[-1] if visible else None
            match part:
                case Marker():
                    pass
                case ToolCall():
                    self.has_tool_calls = True
                    visible.append(ToolCall(part.name, part.arguments, part.source, self._id(part)))
                case Content(text) if isinstance(last, Content):
                    self.leftovers.look(text)
                    visible[-1] = Content(last.text + text)
                case Reasoning(text) if isinstance(last, Reasoning):
                    visible[-1] = Reasoning(last.text + text)
                case _:
                    if isinstance(part, Content):
                        self.leftovers.look(part.text)
                    if part.text:
                        visible.append(part)
        return visible

    def _id(self, call: ToolCall) -> str:
        # Models that write ids may repeat one, and clients match results by id.
        id = call.id if call.id and call.id not in self._ids else self._new_call_id()
        self._ids.add(id)
        return id


class OutputProcessor:
    """Turns batches of a model's events into batches of chat events."""

    def __init__(self, request: ChatRequest, parsers: ParserSelection, telltales: Telltales) -> None:
        self._request = request
        self._parsers = parsers
        self._telltales = telltales
        self._choices: dict[int, ChoiceState] = {}
        self._started: Started | None = None
        self._tokens = self._discarded_tokens = self._reasoning_tokens = 0
        self.finished = False
        self.has_tool_calls = False
        self.warning: str | None = None

    def process(self, events: list[Event]) -> list[ChatEvent]:
        """Process one batch; neighbouring text of a choice becomes one ChoiceDelta."""
        out: list[ChatEvent] = []
        pieces: dict[int, list[TextDelta]] = {}
        for event in events:
            match event:
                case TextDelta(choice=choice):
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
                    self._tokens = max(self._tokens, event.completion_tokens - self._discarded_tokens)
                case Progress():
                    out.append(event)
        self._flush(pieces, out)
        started = self._started
        if started is not None and not self._choices and not self.finished:
            self.finished = True
            tokens = (started.prompt_tokens, started.cached_tokens, self._tokens)
            out.append(OutputCompleted(*tokens, self._reasoning_tokens))
        return out

    def _start(self, started: Started) -> None:
        self._started = started
        family = self._parsers.tools or self._parsers.reasoning or Verbatim
        for index in range(self._request.n):
            parser = make_parser(self._parsers, self._request, started.generation_prompt)
            one_call = not self._request.parallel_tool_calls
            leftovers = Leftovers(self._telltales)
            self._choices[index] = ChoiceState(index, parser, family.new_call_id, one_call, leftovers)

    def _flush(self, pieces: dict[int, list[TextDelta]], out: list[ChatEvent]) -> None:
        for index, texts in pieces.items():
            choice = self._choices.get(index)
            # Where the first call ends the choice, text after it must not be counted, however it is batched.
            for group in [[text] for text in texts] if choice is not None and choice.one_call else [texts]:
                tokens = sum(text.token_count for text in group)
                if choice is None or choice.finished:
                    self._discarded_tokens += tokens
                    continue
                self._tokens += tokens
                self._parse(choice, group, out)
        pieces.clear()

    def _parse(self, choice: ChoiceState, texts: list[TextDelta], out: list[ChatEvent]) -> None:
        parts = choice.parse(texts)
        logprobs = tuple([lp for text in texts for lp in text.logprobs])
        if parts or logprobs:
            out.append(ChoiceDelta(choice.index, parts, logprobs))
        if choice.finished:
            self._end(choice, "tool_calls", out)

    def _finish(self, index: int, reason: StopReason, stop: str | None, out: list[ChatEvent]) -> None:
        choice = self._choices.get(index)
        if choice is None:
            return
        if parts := choice.finish():
            out.append(ChoiceDelta(index, parts))
        # A tool call does not change that the output was cut off.
        self._end(choice, "tool_calls" if choice.has_tool_calls and reason == "stop" else reason, out, stop)

    def _end(self, choice: ChoiceState, reason: FinishReason, out: list[ChatEvent], stop: str | None = None) -> None:
        self.has_tool_calls = self.has_tool_calls or choice.has_tool_calls
        self._reasoning_tokens += choice.reasoning_tokens
        if choice.leftovers.found is not None:
            reading = (self._parsers.reasoning, self._parsers.tools)
            self.warning = self._telltales.advice(choice.leftovers.found, reading)
        del self._choices[choice.index]
        out.append(ChoiceCompleted(choice.index, reason, stop))

"""Processes the output of a chat request: a model's text becomes content, reasoning and tool calls.

States of a choice, see ChoiceState:

    state      output                                           next state
    OPEN       text is parsed and emitted                       CALLED by a tool call, if only one is allowed;
                                                                FINISHED by ChoiceFinished or Finished
    CALLED     the rest of the batch is discarded               FINISHED at once, with finish reason "tool_calls"
    FINISHED   text is discarded, its tokens are not counted    none

The output is finished when every choice is. A choice that is FINISHED has been removed from OutputProcessor.
"""

from __future__ import annotations

from collections.abc import Callable

from mlx_host._host.parser_factory import PassthroughParser, make_parser
from mlx_host._host.parser_selection import ParserSelection
from mlx_host._host.unparsed_markup import MarkupSignatures, UnparsedMarkupDetector
from mlx_host.api import ChatEvent, ChoiceCompleted, ChoiceDelta, FinishReason, OutputCompleted, VisiblePart
from mlx_host.events import ChoiceFinished, Event, Finished, Progress, Started, StopReason, TextDelta
from mlx_host.parsing import Content, Marker, Parser, Part, Reasoning, ToolCall
from mlx_host.requests import ChatRequest


class ChoiceState:
    """Parses one choice. With `single_call`, it is CALLED after its first tool call."""

    def __init__(
        self,
        index: int,
        parser: Parser,
        new_call_id: Callable[[], str],
        single_call: bool,
        detector: UnparsedMarkupDetector,
    ) -> None:
        self.index = index
        self.single_call = single_call
        self.detector = detector
        self.has_tool_calls = False
        self.reasoning_tokens = 0
        # Tokens of text that the parser has not emitted yet.
        self._pending_tokens = 0
        self._call_ids: set[str] = set()
        self._parser = parser
        self._new_call_id = new_call_id

    def parse(self, texts: list[TextDelta]) -> list[VisiblePart]:
        """Parse consecutive text; adjacent parts of one type are merged."""
        if isinstance(self._parser, PassthroughParser):
            return self._visible(self._parser.feed("".join([text.text for text in texts])))
        parts: list[Part] = []
        for text in texts:
            new_parts = self._parser.feed(text.text)
            self._count(text.token_count, new_parts)
            parts += new_parts
        return self._visible(parts)

    def finish(self) -> list[VisiblePart]:
        """Return the parts that the parser has held back until the end of the text."""
        parts = self._parser.finish()
        self._count(0, parts)
        return self._visible(parts)

    def _count(self, tokens: int, parts: list[Part]) -> None:
        """Attribute tokens to the next visible part: those of a marker count for the part after it."""
        self._pending_tokens += tokens
        for part in parts:
            if isinstance(part, VisiblePart):
                self.reasoning_tokens += self._pending_tokens if isinstance(part, Reasoning) else 0
                self._pending_tokens = 0
                break

    @property
    def is_called(self) -> bool:
        """Whether the choice has made its only allowed tool call."""
        return self.has_tool_calls and self.single_call

    def _visible(self, parts: list[Part]) -> list[VisiblePart]:
        visible: list[VisiblePart] = []
        for part in parts:
            if self.is_called:
                break
            last = visible[-1] if visible else None
            match part:
                case Marker():
                    pass
                case ToolCall():
                    self.has_tool_calls = True
                    visible.append(ToolCall(part.name, part.arguments, part.source, self._id(part)))
                case Content(text) if isinstance(last, Content):
                    self.detector.feed(text)
                    visible[-1] = Content(last.text + text)
                case Reasoning(text) if isinstance(last, Reasoning):
                    visible[-1] = Reasoning(last.text + text)
                case _:
                    if isinstance(part, Content):
                        self.detector.feed(part.text)
                    if part.text:
                        visible.append(part)
        return visible

    def _id(self, call: ToolCall) -> str:
        # Clients match results to calls by id, and models may generate an id twice.
        id = call.id if call.id and call.id not in self._call_ids else self._new_call_id()
        self._call_ids.add(id)
        return id


class OutputProcessor:
    """Converts batches of a model's events to batches of chat events.

    `warning` reports unparsed markup. `finished` is whether every choice is.
    """

    def __init__(self, request: ChatRequest, parsers: ParserSelection, signatures: MarkupSignatures) -> None:
        self._request = request
        self._parsers = parsers
        self._signatures = signatures
        self._choices: dict[int, ChoiceState] = {}
        self._started: Started | None = None
        self._tokens = self._discarded_tokens = self._reasoning_tokens = 0
        self.finished = False
        self.has_tool_calls = False
        self.warning: str | None = None

    def process(self, events: list[Event]) -> list[ChatEvent]:
        """Process one batch; consecutive text of a choice becomes one ChoiceDelta."""
        out: list[ChatEvent] = []
        texts: dict[int, list[TextDelta]] = {}
        for event in events:
            match event:
                case TextDelta(choice=choice):
                    texts.setdefault(choice, []).append(event)
                case Started():
                    self._start(event)
                    out.append(event)
                case ChoiceFinished(reason, choice, stop):
                    self._flush(texts, out)
                    self._finish(choice, reason, stop, out)
                case Finished():
                    self._flush(texts, out)
                    for choice in list(self._choices):
                        self._finish(choice, event.reason, event.stop, out)
                    self._tokens = max(self._tokens, event.completion_tokens - self._discarded_tokens)
                case Progress():
                    out.append(event)
        self._flush(texts, out)
        started = self._started
        if started is not None and not self._choices and not self.finished:
            self.finished = True
            tokens = (started.prompt_tokens, started.cached_tokens, self._tokens)
            out.append(OutputCompleted(*tokens, self._reasoning_tokens))
        return out

    def _start(self, started: Started) -> None:
        self._started = started
        parser_type = self._parsers.tools or self._parsers.reasoning or PassthroughParser
        single_call = not self._request.parallel_tool_calls
        for index in range(self._request.n):
            parser = make_parser(self._parsers, self._request, started.generation_prompt)
            detector = UnparsedMarkupDetector(self._signatures)
            self._choices[index] = ChoiceState(index, parser, parser_type.new_call_id, single_call, detector)

    def _flush(self, texts: dict[int, list[TextDelta]], out: list[ChatEvent]) -> None:
        for index, deltas in texts.items():
            choice = self._choices.get(index)
            # With a single call, text after it is not counted: one by one, so that batching makes no difference.
            for group in [[delta] for delta in deltas] if choice is not None and choice.single_call else [deltas]:
                tokens = sum(delta.token_count for delta in group)
                if choice is None or choice.is_called:
                    self._discarded_tokens += tokens
                    continue
                self._tokens += tokens
                self._parse(choice, group, out)
        texts.clear()

    def _parse(self, choice: ChoiceState, texts: list[TextDelta], out: list[ChatEvent]) -> None:
        parts = choice.parse(texts)
        logprobs = tuple([lp for text in texts for lp in text.logprobs])
        if parts or logprobs:
            out.append(ChoiceDelta(choice.index, parts, logprobs))
        if choice.is_called:
            self._end(choice, "tool_calls", out)

    def _finish(self, index: int, reason: StopReason, stop: str | None, out: list[ChatEvent]) -> None:
        choice = self._choices.get(index)
        if choice is None:
            return
        if parts := choice.finish():
            out.append(ChoiceDelta(index, parts))
        # Truncated output has the reason "length" even if it contains a tool call.
        self._end(choice, "tool_calls" if choice.has_tool_calls and reason == "stop" else reason, out, stop)

    def _end(self, choice: ChoiceState, reason: FinishReason, out: list[ChatEvent], stop: str | None = None) -> None:
        self.has_tool_calls = self.has_tool_calls or choice.has_tool_calls
        self._reasoning_tokens += choice.reasoning_tokens
        if choice.detector.found is not None:
            used = (self._parsers.reasoning, self._parsers.tools)
            self.warning = self._signatures.suggestion(choice.detector.found, used)
        del self._choices[choice.index]
        out.append(ChoiceCompleted(choice.index, reason, stop))

"""Processes the output of a chat request: a model's text becomes content, reasoning and tool calls.

States of a choice, see ChoiceState:

    state      output                                           next state
    OPEN       text is parsed and emitted                       CALLED by a complete tool call, if only one is allowed;
                                                                STOPPED by a stop string in the content;
                                                                FINISHED by ChoiceFinished or Finished
    CALLED     the rest of the batch is discarded               FINISHED at once, with finish reason "tool_calls"
    STOPPED    the rest of the batch is discarded               FINISHED at once, with finish reason "stop"
    FINISHED   text is discarded, its tokens are not counted    none

The output is finished when every choice is. A choice that is FINISHED has been removed from OutputProcessor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from mlx_host._engine.stop_strings import StopMatcher
from mlx_host._host.logprob_alignment import LogprobAligner
from mlx_host._host.parser_factory import PassthroughParser, make_parser
from mlx_host._host.parser_selection import ParserSelection
from mlx_host._host.unparsed_markup import MarkupSignatures, UnparsedMarkupDetector
from mlx_host.api import ChatEvent, ChoiceCompleted, ChoiceDelta, FinishReason, OutputCompleted, VisiblePart
from mlx_host.events import ChoiceFinished, Event, Finished, Logprobs, Progress, Started, StopReason, TextDelta
from mlx_host.parsing import (
    Content,
    Marker,
    Parser,
    Part,
    Reasoning,
    ToolCall,
    ToolCallDelta,
    replace_escaped_surrogates,
)
from mlx_host.requests import ChatRequest, Json

# A visible part, and the log-probabilities of its tokens if it is content.
Output = tuple[VisiblePart, tuple[Logprobs, ...]]


class ChoiceState:
    """Parses one choice. With `single_call`, it is CALLED after its first tool call.

    `stops` are matched in the content only: neither reasoning nor the arguments of a call end at a stop string. `stop`
    is the one that ended the choice.
    """

    def __init__(
        self,
        index: int,
        parser: Parser,
        new_call_id: Callable[[], str],
        detector: UnparsedMarkupDetector,
        *,
        single_call: bool,
        stops: Sequence[str],
        include_stop: bool,
        logprobs: bool,
        tool_names: Collection[str] = (),
    ) -> None:
        self.index = index
        self.single_call = single_call
        self.detector = detector
        self.has_tool_calls = False
        self.repaired_calls: list[str] = []
        self.unknown_calls: list[str] = []
        self.reasoning_tokens = 0
        self.stop: str | None = None
        # Tokens of text that the parser has not emitted yet.
        self._pending_tokens = 0
        self._tool_names = tool_names
        self._call_ids: set[str] = set()
        self._call_name = ""
        self._parser = parser
        self._new_call_id = new_call_id
        self._matcher = StopMatcher(stops, include=include_stop) if stops else None
        self._aligner = LogprobAligner() if logprobs else None
        self._in_content = True

    @property
    def ends_early(self) -> bool:
        """Whether the choice may end before the model ends it."""
        return self.single_call or self._matcher is not None

    @property
    def is_ended(self) -> bool:
        """Whether the choice has made its only allowed tool call or ended at a stop string."""
        return (self.has_tool_calls and self.single_call) or self.stop is not None

    def parse(self, texts: list[TextDelta]) -> list[ChoiceDelta]:
        """Parse consecutive text; adjacent parts of one type are merged."""
        if self._aligner is not None:
            for text in texts:
                self._aligner.feed(text)
        if isinstance(self._parser, PassthroughParser):
            return self._deltas(self._parser.feed("".join([text.text for text in texts])))
        parts: list[Part] = []
        for text in texts:
            new_parts = self._parser.feed(text.text)
            self._count(text.token_count, new_parts)
            parts += new_parts
        return self._deltas(parts)

    def finish(self, *, truncated: bool, only_calls: bool) -> list[ChoiceDelta]:
        """Return what was held back until the end of the text.

        With `only_calls` the output can only be calls, so that other text is a call that was cut off; it is dropped.
        """
        self._parser.truncated = truncated
        parts = self._parser.finish()
        if only_calls and truncated:
            parts = [part for part in parts if not isinstance(part, Content)]
        self._count(0, parts)
        output = self._visible(parts)
        output += self._flush()
        if self._aligner is not None and self._in_content and not self.is_ended:
            output.append((Content(""), self._aligner.take_rest()))
        return self._joined(output)

    def _count(self, tokens: int, parts: list[Part]) -> None:
        """Attribute tokens to the next visible part: those of a marker count for the part after it."""
        self._pending_tokens += tokens
        for part in parts:
            if isinstance(part, VisiblePart):
                self.reasoning_tokens += self._pending_tokens if isinstance(part, Reasoning) else 0
                self._pending_tokens = 0
                break

    def _deltas(self, parts: list[Part]) -> list[ChoiceDelta]:
        return self._joined(self._visible(parts))

    def _visible(self, parts: list[Part]) -> list[Output]:
        """Return the visible parts up to the end of the choice; content is split where its tokens begin."""
        output: list[Output] = []
        for part in parts:
            if self.is_ended:
                break
            if isinstance(part, Content):
                self._in_content = True
                output += self._content(part)
                continue
            if self._aligner is not None:
                self._aligner.skip(len(part.source))
            if isinstance(part, Marker):
                continue
            self._in_content = False
            output += self._flush()
            output.append((self._call(part) if isinstance(part, ToolCall | ToolCallDelta) else part, ()))
        return output

    def _call(self, part: ToolCall | ToolCallDelta) -> ToolCall | ToolCallDelta:
        """Return a call, or a fragment of one, for clients, and keep account of it."""
        arguments = replace_escaped_surrogates(part.arguments)
        if part.name:
            self._call_name = part.name
            if part.name not in self._tool_names:
                self.unknown_calls.append(part.name)
        if part.repaired:
            self.repaired_calls.append(self._call_name)
        if isinstance(part, ToolCall):
            self.has_tool_calls = True
            return ToolCall(part.name, arguments, part.source, self._id(part.id))
        # A call that was cut off is not one that clients should execute.
        self.has_tool_calls = self.has_tool_calls or part.state == "completed"
        return replace(part, arguments=arguments, id=self._id(part.id) if part.name else None)

    def _content(self, part: Content) -> Iterator[Output]:
        for text, logprobs in [(part.text, ())] if self._aligner is None else self._aligner.take(part.text):
            if self._matcher is not None:
                released, _ = self._matcher.feed(TextDelta(text, logprobs=logprobs))
                text, logprobs = released.text, released.logprobs
                self.stop = self._matcher.matched
            self.detector.feed(text)
            yield Content(text), logprobs
            if self.stop is not None:
                return

    def _flush(self) -> Iterator[Output]:
        """Yield content that was held back as the possible beginning of a stop string."""
        if self._matcher is not None and self.stop is None:
            released = self._matcher.flush(self.index)
            self.detector.feed(released.text)
            yield Content(released.text), released.logprobs

    def _joined(self, output: list[Output]) -> list[ChoiceDelta]:
        """Return one delta, or with log-probabilities one for each part, so that they are next to their text."""
        parts: list[VisiblePart] = []
        logprobs: list[tuple[Logprobs, ...]] = []
        for part, part_logprobs in output:
            last = parts[-1] if parts else None
            if isinstance(part, Content) and isinstance(last, Content):
                parts[-1] = Content(last.text + part.text)
                logprobs[-1] += part_logprobs
            elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
                parts[-1] = Reasoning(last.text + part.text)
            elif isinstance(part, ToolCall | ToolCallDelta) or part.text or part_logprobs:
                parts.append(part)
                logprobs.append(part_logprobs)
        if any(logprobs):
            return [
                ChoiceDelta(self.index, [] if isinstance(part, Content) and not part.text else [part], each)
                for part, each in zip(parts, logprobs, strict=True)
            ]
        return [ChoiceDelta(self.index, parts)] if parts else []

    def _id(self, generated: str | None) -> str:
        # Clients match results to calls by id, and models may generate an id twice.
        id = generated if generated and generated not in self._call_ids else self._new_call_id()
        self._call_ids.add(id)
        return id


class OutputProcessor:
    """Converts batches of a model's events to batches of chat events.

    `warning` reports unparsed markup, repaired calls and calls to unknown functions; `has_unparsed_markup` and
    `repaired_calls` are for the metrics. `finished` is whether every choice is. With `stream_arguments` there may be
    ToolCallDelta parts.
    """

    def __init__(
        self,
        request: ChatRequest,
        parsers: ParserSelection,
        signatures: MarkupSignatures,
        *,
        stream_arguments: bool = False,
    ) -> None:
        self._request = request
        self._stream_arguments = stream_arguments
        self._parsers = parsers
        self._signatures = signatures
        self._choices: dict[int, ChoiceState] = {}
        self._started: Started | None = None
        self._tokens = self._discarded_tokens = self._reasoning_tokens = 0
        self.finished = False
        self.has_tool_calls = False
        self.has_unparsed_markup = False
        self.repaired_calls = 0
        self._warnings: dict[str, None] = {}
        self._tool_names = frozenset(name for tool in request.tools if (name := _tool_name(tool)))

    @property
    def warning(self) -> str | None:
        return "; ".join(self._warnings) or None

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
        for index in range(self._request.n):
            self._choices[index] = ChoiceState(
                index,
                make_parser(
                    self._parsers,
                    self._request,
                    started.generation_prompt,
                    stream_arguments=self._stream_arguments,
                ),
                parser_type.new_call_id,
                UnparsedMarkupDetector(self._signatures, self._tool_names),
                single_call=not self._request.parallel_tool_calls,
                stops=self._request.stop,
                include_stop=self._request.include_stop,
                logprobs=self._request.top_logprobs is not None,
                tool_names=self._tool_names,
            )

    def _flush(self, texts: dict[int, list[TextDelta]], out: list[ChatEvent]) -> None:
        for index, deltas in texts.items():
            choice = self._choices.get(index)
            # Text after an early end is not counted; parsed one by one, so that batching makes no difference.
            for group in [[delta] for delta in deltas] if choice is not None and choice.ends_early else [deltas]:
                tokens = sum(delta.token_count for delta in group)
                if choice is None or choice.is_ended:
                    self._discarded_tokens += tokens
                    continue
                self._tokens += tokens
                self._parse(choice, group, out)
        texts.clear()

    def _parse(self, choice: ChoiceState, texts: list[TextDelta], out: list[ChatEvent]) -> None:
        out += choice.parse(texts)
        if choice.is_ended:
            self._end(choice, "tool_calls" if choice.has_tool_calls else "stop", out, choice.stop)

    def _finish(self, index: int, reason: StopReason, stop: str | None, out: list[ChatEvent]) -> None:
        choice = self._choices.get(index)
        if choice is None:
            return
        # Output that a stop string ends is cut off, too.
        truncated = reason != "stop" or stop is not None
        out += choice.finish(truncated=truncated, only_calls=self._request.tool_choice == "required")
        if choice.stop is not None:
            reason, stop = "stop", choice.stop
        # Truncated output has the reason "length" even if it contains a tool call.
        self._end(choice, "tool_calls" if choice.has_tool_calls and reason == "stop" else reason, out, stop)

    def _end(self, choice: ChoiceState, reason: FinishReason, out: list[ChatEvent], stop: str | None = None) -> None:
        self.has_tool_calls = self.has_tool_calls or choice.has_tool_calls
        self._reasoning_tokens += choice.reasoning_tokens
        self._warn(choice)
        del self._choices[choice.index]
        out.append(ChoiceCompleted(choice.index, reason, stop))

    def _warn(self, choice: ChoiceState) -> None:
        used = (self._parsers.reasoning, self._parsers.tools)
        detector = choice.detector
        if detector.found is not None:
            self._warnings[self._signatures.suggestion(detector.found, used)] = None
        elif detector.call is not None:
            self._warnings[self._signatures.call_suggestion(detector.call, used)] = None
        self.has_unparsed_markup = self.has_unparsed_markup or detector.found is not None or detector.call is not None
        self.repaired_calls += len(choice.repaired_calls)
        for name in choice.repaired_calls:
            self._warnings[f"the call of {name!r} was damaged JSON and has been repaired"] = None
        for name in choice.unknown_calls:
            self._warnings[f"the output calls {name!r}, which is not one of the request's tools"] = None


def _tool_name(tool: Json) -> str | None:
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None

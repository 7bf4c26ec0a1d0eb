"""The state machine for families that mark reasoning and calls with fixed strings.

A family declares its markers and call formats. Rules for all families:

* The output starts in reasoning if the generation prompt opens reasoning without closing it. A repeated opening marker
  is removed. Reasoning that is never closed lasts to the end; a closing marker in content is removed. In content, a
  reasoning marker directly after a quotation mark or backtick is text, and so is a call start directly after a backtick
  that opens code: the output is quoting it.
* Text that a reader rejects is text. The calls that it has emitted before are kept. A call of which arguments have been
  streamed ends there: they are completed, except if the output was cut off.
* A call in reasoning is pending. If the reasoning is closed later, the call was part of it and is not emitted; if the
  output ends first, the model forgot the closing marker, and the call is emitted. A closing marker inside a complete
  call is data.

States of a MarkupParser, between chunks:

    state         _reader       waits for
    SCANNING      None          the next marker or call start; text before it is emitted
    READING_CALL  a generator   the rest of the call

    event                                    from          to            effect
    call start found                         SCANNING      READING_CALL  the reader is created
    other marker found                       SCANNING      SCANNING      reasoning begins or ends, or the marker is text
    reader emits a call                      READING_CALL  READING_CALL  ToolCall
    reader reports arguments                 READING_CALL  READING_CALL  ToolCallDelta, if arguments are streamed
    reader emits text without a closing      READING_CALL  READING_CALL  text
    marker
    reader emits text with a closing marker  READING_CALL  SCANNING      rolled back: the text after the marker is
    inside reasoning                                                     scanned again, at most _MAX_RESCANS times
    reader returns after a call              READING_CALL  SCANNING      the rest that it consumed is a Marker
    reader raises CallSyntaxError after it   READING_CALL  SCANNING      the last ToolCallDelta
    has reported arguments
    reader raises CallSyntaxError, or        READING_CALL  SCANNING      rolled back: the text since the last decision
    returns without a call                                               is text, except for a partial marker at its end
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mlx_host.grammar import Concat, Grammar, TextThrough, one_of, optional
from mlx_host.parsing.call_format import CallFormat, CallReader, CallStart
from mlx_host.parsing.literal_matcher import LiteralMatcher
from mlx_host.parsing.parser import Parser, Part, ToolCall, ToolChoice
from mlx_host.parsing.part_builder import PartBuilder
from mlx_host.parsing.scanner import CallSyntaxError, Decision, ReadFunction, ScanGenerator, Scanner
from mlx_host.parsing.schema_nodes import tool_functions
from mlx_host.requests import Json, ReasoningMarkup

_QUOTES = ("`", '"', "'")

# How often rejected text in reasoning is scanned again because it contains a closing marker. Keeps the cost linear.
_MAX_RESCANS = 4


class MarkupParser(Parser):
    """A declarative Parser.

    think_open, think_close: the variants of the reasoning markers.
    ignored_tokens: tokens that are removed wherever they occur, such as end-of-turn tokens.
    calls: the readers and formats of calls; if two have the same call start, the first one is used.

    The grammar, `call_starts`, `markers` and, unless the class declares them, `signatures` and `template_signatures`
    are derived from these.
    """

    think_open: ClassVar[tuple[str, ...]] = ()
    think_close: ClassVar[tuple[str, ...]] = ()
    ignored_tokens: ClassVar[tuple[str, ...]] = ()
    calls: ClassVar[tuple[CallReader, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        starts = [start for reader in cls.calls for start in reader.call_starts]
        syntax = [text for reader in cls.calls for text in reader.syntax]
        thinking = (*cls.think_open, *cls.think_close)
        cls.call_starts = tuple(dict.fromkeys(start.text for start in starts if start.is_markup))
        cls.bare_calls = any(reader.lookalikes for reader in cls.calls)
        cls.markers = tuple(dict.fromkeys((*thinking, *cls.ignored_tokens, *(start.text for start in starts), *syntax)))
        if "signatures" not in cls.__dict__:
            cls.signatures = tuple(dict.fromkeys((*cls.call_starts, *thinking)))
        if "template_signatures" not in cls.__dict__:
            written = [call_format.call_starts[0] for call_format in cls.formats()]
            cls.template_signatures = tuple(dict.fromkeys((start.text,) for start in written if not start.leading))

    @classmethod
    def formats(cls) -> tuple[CallFormat, ...]:
        """Return the formats in which calls can be forced."""
        return tuple(reader for reader in cls.calls if isinstance(reader, CallFormat))

    @classmethod
    def can_force_calls(cls) -> bool:
        return bool(cls.formats()) or cls.grammar is not MarkupParser.grammar

    @classmethod
    def write_calls(cls, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        return [call_format.write(calls) for call_format in cls.formats()]

    @classmethod
    def call_lookalikes(cls) -> tuple[str, ...]:
        return tuple(dict.fromkeys(regex for reader in cls.calls for regex in reader.lookalikes))

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        """Return the grammar of calls in each format; the model's first token selects the format."""
        formats = self.formats()
        if not formats:
            return super().grammar(tools, choice)
        functions = tool_functions(tools)
        return one_of(*(call_format.grammar(functions, choice) for call_format in formats))

    def __init__(
        self,
        *,
        generation_prompt: str = "",
        tools: Sequence[Json] = (),
        reasoning: bool = True,
        repair_calls: bool = True,
    ) -> None:
        super().__init__(
            generation_prompt=generation_prompt, tools=tools, reasoning=reasoning, repair_calls=repair_calls
        )
        self._scanner = Scanner(tools, repair=repair_calls)
        self._builder = PartBuilder(in_reasoning=self.starts_in_reasoning, reasoning=reasoning)
        self._reader: ScanGenerator[None] | None = None
        self._start_length = 0
        self._called = False
        self._rescans = 0
        self._readers: dict[str, tuple[CallStart, ReadFunction]] = {}
        for reader in self.calls if tools else ():
            for start in reader.call_starts:
                self._readers.setdefault(start.text, (start, reader.read))
        leading = {start.text for start, _ in self._readers.values() if start.leading}
        self._leading = LiteralMatcher(leading)
        self._without_calls = LiteralMatcher((*self.think_open, *self.think_close, *self.ignored_tokens))
        self._scanner.call_starts = tuple(start for start in self._readers if start not in leading)
        self._all_markers = LiteralMatcher((*self._without_calls.literals, *self._scanner.call_starts))
        self._closing = LiteralMatcher(self.think_close)

    def feed(self, text: str) -> list[Part]:
        self._scanner.feed(text)
        return self._parse()

    def finish(self) -> list[Part]:
        self._scanner.ended = True
        self._scanner.truncated = self.truncated
        parts = self._parse()
        self._builder.end()
        return parts + self._builder.take()

    @classmethod
    def reasoning_markup(cls) -> ReasoningMarkup | None:
        if not cls.think_close:
            return None
        return ReasoningMarkup(cls.think_open, cls.think_close, cls.think_close[0])

    @classmethod
    def can_reason(cls, template: str) -> bool:
        return any(marker in template for marker in (*cls.think_open, *cls.think_close))

    def reasoning_grammar(self) -> Grammar:
        if not self.reasoning or not self.think_close:
            return Concat()
        closed = TextThrough(self.think_close)
        if self.starts_in_reasoning:
            return closed
        # A prompt that contains a closing marker and does not end in reasoning has already closed it.
        if any(marker in self.generation_prompt for marker in self.think_close) or not self.think_open:
            return Concat()
        return optional(one_of(*self.think_open), closed)

    def is_marker(self, marker: str, *, in_reasoning: bool, at_content_start: bool) -> bool:
        """Return whether a reasoning marker or ignored token is one at this position, and not ordinary text.

        `in_reasoning` is whether a closing marker would end reasoning, `at_content_start` whether content would begin
        here. Called once for each occurrence, in order.
        """
        return True

    @property
    def starts_in_reasoning(self) -> bool:
        """Whether the generation prompt opens reasoning without closing it."""
        prompt = self.generation_prompt
        opened = max((prompt.rfind(marker) for marker in self.think_open), default=-1)
        return opened > max((prompt.rfind(marker) for marker in self.think_close), default=-1)

    def _parse(self) -> list[Part]:
        while self._scan() if self._reader is None else self._read_call(self._reader):
            pass
        return self._builder.take()

    def _scan(self) -> bool:
        """Emit text up to the next marker and handle the marker. Return False if more text is needed."""
        s, builder = self._scanner, self._builder
        if builder.at_content_start:
            body = s.space_ends()
            builder.text(s.text[s.pos : body])
            s.pos = body
            start, undecided = self._leading.match_at(s.text, s.pos, ended=s.ended)
            if start:
                return self._start_call(start)
            if undecided:
                return False
        exhausted = builder.may_be_reasoning and self._rescans == _MAX_RESCANS
        markers = self._without_calls if exhausted else self._all_markers
        begin, end = markers.find(s.text, s.pos, ended=s.ended)
        builder.text(s.text[s.pos : begin])
        s.pos = begin
        if begin == end:
            return False
        marker = s.text[begin:end]
        if marker in self._readers:
            is_markup = self._readers[marker][0].is_markup
            if not (builder.after_open_backtick if is_markup else builder.in_fence):
                return self._start_call(marker)
            if not is_markup:
                # The next call may begin on this line.
                end = begin + 1
            builder.text(s.text[begin:end])
            s.pos = end
            return True
        s.pos = end
        self._handle_marker(marker)
        return True

    def _handle_marker(self, marker: str) -> None:
        builder = self._builder
        in_reasoning = builder.may_be_reasoning
        quoted = not in_reasoning and builder.last_char in _QUOTES
        if not self.is_marker(marker, in_reasoning=in_reasoning, at_content_start=builder.at_content_start):
            builder.text(marker)
        elif marker in self.ignored_tokens:
            builder.ignored(marker)
        elif marker in self.think_close and not quoted:
            builder.close(marker)
        elif marker in self.think_open and (builder.only_whitespace if builder.in_reasoning else not quoted):
            builder.open(marker)
        else:
            builder.text(marker)

    def _start_call(self, start: str) -> bool:
        """Create the reader of the call whose start is the next text."""
        s, (declared, read) = self._scanner, self._readers[start]
        if not declared.inclusive:
            s.take(s.pos + len(start))
        s.stream.enabled = self.stream_arguments and not self._builder.may_be_reasoning
        self._reader = read(s)
        self._start_length = len(start)
        self._called = False
        return True

    def _read_call(self, reader: ScanGenerator[None]) -> bool:
        """Advance the reader as far as the text allows. Return False if more text is needed."""
        s = self._scanner
        outcome = "waiting"
        try:
            next(reader)
        except StopIteration:
            outcome = "done"
        except CallSyntaxError:
            outcome = "failed"
        if outcome != "waiting":
            s.end_stream()
        if not self._apply(s.take_decisions()):
            return True
        if outcome == "waiting":
            return False
        self._reader = None
        if outcome == "done" and self._called:
            self._builder.marker(s.take_source())
        else:
            self._reject(s.take_source())
        return True

    def _apply(self, decisions: list[Decision]) -> bool:
        """Emit what the reader has decided. Return False if a closing marker in rejected text discards the reader."""
        for n, decision in enumerate(decisions):
            if decision.streamed:
                self._add_delta(decision)
                continue
            self._start_length = 0
            self._called = bool(decision.name)
            if self._called:
                self._builder.call(
                    ToolCall(decision.name, decision.arguments, decision.source, decision.id, decision.repaired)
                )
            elif rest := self._emit_text(decision.source):
                later = "".join(following.source for following in decisions[n + 1 :])
                self._scanner.unread(rest + later + self._scanner.take_source())
                self._reader = None
                return False
        return True

    def _add_delta(self, decision: Decision) -> None:
        if decision.streamed != "in_progress":
            self._start_length, self._called = 0, True
        self._builder.call_delta(decision.delta())

    def _reject(self, source: str) -> None:
        """Emit the text of a failed call. The next marker may begin in it, but not within the call start."""
        s = self._scanner
        source += s.take(s.pos + max(0, self._start_length - len(source)))
        s.take_source()
        partial = self._all_markers.partial_suffix_length(source[self._start_length :])
        s.unread(source[len(source) - partial :])
        s.unread(self._emit_text(source[: len(source) - partial]))

    def _emit_text(self, source: str) -> str:
        """Emit text up to a closing marker that ends the reasoning; return the rest, which must be scanned again."""
        builder = self._builder
        start, end = self._closing.find(source, 0, ended=True) if builder.may_be_reasoning else (0, 0)
        if start == end:
            builder.text(source)
            return ""
        self._rescans += 1
        builder.text(source[:start])
        builder.close(source[start:end])
        return source[end:]

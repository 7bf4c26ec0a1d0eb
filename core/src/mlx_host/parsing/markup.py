"""The state machine for families that mark reasoning and calls by fixed strings in the text.

A family declares its markers and the formats of its calls. The rules that all of them share:

* The output starts inside reasoning if the prompt's tail opens thinking and does not close it again. A repeated opener
  is dropped. Reasoning that is never closed is reasoning to the end; a closer in content is taken out. In content, a
  thinking marker directly after a quotation mark or backtick is text: the output talks about it.
* What a reader gives up on is text. What it has decided before stands.
* A call in reasoning is kept back. If the reasoning is closed later, it was a thought and is not executed; if the
  output ends first, the model forgot to close, and the call stands. A closer within a complete call is data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mlx_host.grammar import Concat, Grammar, TextThrough, one_of, optional
from mlx_host.parsing.call_format import CallFormat, CallReader, Opener
from mlx_host.parsing.literal_matcher import Literals
from mlx_host.parsing.parser import Parser, Part, ToolCall, ToolChoice
from mlx_host.parsing.part_builder import Writer
from mlx_host.parsing.scanner import Commit, NotACall, Reader, Reading, Scanner
from mlx_host.parsing.schema_nodes import functions
from mlx_host.requests import Json

_QUOTES = ("`", '"', "'")

# How often text of a failed call in reasoning is read again because a closer stands in it; the limit keeps cost linear.
_REREADS = 4


class MarkupParser(Parser):
    """A Parser that is declared.

    `think_open` and `think_close` are variants of the thinking markers. `noise` is removed wherever it stands, such as
    end-of-turn tokens. `calls` are the formats of calls; of two with the same opener the first one reads. From these
    follow the grammar, `openers`, `markers` and, unless the class declares them, `telltales` and `templates`.
    """

    think_open: ClassVar[tuple[str, ...]] = ()
    think_close: ClassVar[tuple[str, ...]] = ()
    noise: ClassVar[tuple[str, ...]] = ()
    calls: ClassVar[tuple[CallReader, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        openers = [opener for reader in cls.calls for opener in reader.openers]
        syntax = [text for reader in cls.calls for text in reader.syntax]
        thinking = (*cls.think_open, *cls.think_close)
        cls.openers = tuple(dict.fromkeys(opener.text for opener in openers if not opener.leading))
        cls.markers = tuple(dict.fromkeys((*thinking, *cls.noise, *(opener.text for opener in openers), *syntax)))
        if "telltales" not in cls.__dict__:
            cls.telltales = tuple(dict.fromkeys((*cls.openers, *thinking)))
        if "templates" not in cls.__dict__:
            written = [form.openers[0] for form in cls.formats()]
            cls.templates = tuple(dict.fromkeys((opener.text,) for opener in written if not opener.leading))

    @classmethod
    def formats(cls) -> tuple[CallFormat, ...]:
        """The formats in which calls can be forced."""
        return tuple(reader for reader in cls.calls if isinstance(reader, CallFormat))

    @classmethod
    def can_force_calls(cls) -> bool:
        return bool(cls.formats()) or cls.grammar is not MarkupParser.grammar

    @classmethod
    def write_calls(cls, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        return [form.write(calls) for form in cls.formats()]

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        """State the calls in each format; the model chooses among them by its first token."""
        formats = self.formats()
        if not formats:
            return super().grammar(tools, choice)
        declared = functions(tools)
        return one_of(*(form.grammar(declared, choice) for form in formats))

    def __init__(self, *, generation_prompt: str = "", tools: Sequence[Json] = (), reasoning: bool = True) -> None:
        super().__init__(generation_prompt=generation_prompt, tools=tools, reasoning=reasoning)
        self._scanner = Scanner(tools)
        self._writer = Writer(inside=self._opens_inside(generation_prompt), reasoning=reasoning)
        self._reading: Reading[None] | None = None
        self._unopened = 0
        self._called = False
        self._rereads = 0
        self._calls: dict[str, tuple[Opener, Reader]] = {}
        for reader in self.calls if tools else ():
            for opener in reader.openers:
                self._calls.setdefault(opener.text, (opener, reader.read))
        leading = {opener.text for opener, _ in self._calls.values() if opener.leading}
        self._leading = Literals(leading)
        self._thoughts = Literals((*self.think_open, *self.think_close, *self.noise))
        self._all = Literals((*self._thoughts.all, *(opener for opener in self._calls if opener not in leading)))
        self._closers = Literals(self.think_close)

    def feed(self, text: str) -> list[Part]:
        self._scanner.feed(text)
        return self._parts()

    def finish(self) -> list[Part]:
        self._scanner.ended = True
        parts = self._parts()
        self._writer.end()
        return parts + self._writer.take()

    @classmethod
    def thinks(cls, template: str) -> bool:
        return any(marker in template for marker in (*cls.think_open, *cls.think_close))

    def thinking(self) -> Grammar:
        if not self.reasoning or not self.think_close:
            return Concat()
        closed = TextThrough(self.think_close)
        if self._opens_inside(self.generation_prompt):
            return closed
        # A prompt that speaks of thinking and ends outside of it has done with it.
        if any(marker in self.generation_prompt for marker in self.think_close) or not self.think_open:
            return Concat()
        return optional(one_of(*self.think_open), closed)

    def counts(self, marker: str, *, thinking: bool, fresh: bool) -> bool:
        """Tell whether a thinking marker or noise is one here, or mere text; for markers that are ordinary words.

        `thinking` is whether reasoning is being read, `fresh` whether content would begin here. Asked once, in order.
        """
        return True

    def _opens_inside(self, generation_prompt: str) -> bool:
        opened = max((generation_prompt.rfind(marker) for marker in self.think_open), default=-1)
        return opened > max((generation_prompt.rfind(marker) for marker in self.think_close), default=-1)

    def _parts(self) -> list[Part]:
        while self._scan() if self._reading is None else self._read(self._reading):
            pass
        return self._writer.take()

    def _scan(self) -> bool:
        """Write text up to the next marker and act on that; False if more text is needed."""
        s, writer = self._scanner, self._writer
        if writer.fresh:
            body = s.space_ends()
            writer.text(s.text[s.at : body])
            s.at = body
            opener, undecided = self._leading.next(s.text, s.at, ended=s.ended)
            if opener:
                return self._open(opener)
            if undecided:
                return False
        markers = self._thoughts if writer.thinking and self._rereads == _REREADS else self._all
        start, end = markers.find(s.text, s.at, ended=s.ended)
        writer.text(s.text[s.at : start])
        s.at = start
        if start == end:
            return False
        marker = s.text[start:end]
        if marker in self._calls:
            return self._open(marker)
        s.at = end
        self._mark(marker)
        return True

    def _mark(self, marker: str) -> None:
        writer = self._writer
        quoted = not writer.thinking and writer.last in _QUOTES
        if not self.counts(marker, thinking=writer.thinking, fresh=writer.fresh):
            writer.text(marker)
        elif marker in self.noise:
            writer.noise(marker)
        elif marker in self.think_close and not quoted:
            writer.close(marker)
        elif marker in self.think_open and (writer.blank if writer.inside else not quoted):
            writer.open(marker)
        else:
            writer.text(marker)

    def _open(self, opener: str) -> bool:
        """Start reading a call whose opener comes next."""
        s, (declared, read) = self._scanner, self._calls[opener]
        if not declared.inclusive:
            s.take(s.at + len(opener))
        self._reading = read(s)
        self._unopened = len(opener)
        self._called = False
        return True

    def _read(self, reading: Reading[None]) -> bool:
        """Let the reader go on as far as the text goes; False if more is needed."""
        s = self._scanner
        state = "waiting"
        try:
            next(reading)
        except StopIteration:
            state = "done"
        except NotACall:
            state = "failed"
        if not self._settle(s.take_commits()):
            return True
        if state == "waiting":
            return False
        self._reading = None
        if state == "done" and self._called:
            self._writer.marker(s.take_source())
        else:
            self._give_up(s.take_source())
        return True

    def _settle(self, commits: list[Commit]) -> bool:
        """Write what the reader has decided; False if a closer in rejected text makes it all obsolete."""
        for n, commit in enumerate(commits):
            self._unopened = 0
            self._called = bool(commit.name)
            if self._called:
                self._writer.call(ToolCall(commit.name, commit.arguments, commit.source, commit.id))
            elif rest := self._plain(commit.source):
                later = "".join(commit.source for commit in commits[n + 1 :])
                self._scanner.unread(rest + later + self._scanner.take_source())
                self._reading = None
                return False
        return True

    def _give_up(self, source: str) -> None:
        """What was read is text; the next marker may have begun in it, but not within the opener."""
        s = self._scanner
        source += s.take(s.at + max(0, self._unopened - len(source)))
        s.take_source()
        unfinished = self._all.unfinished(source[self._unopened :])
        s.unread(source[len(source) - unfinished :])
        s.unread(self._plain(source[: len(source) - unfinished]))

    def _plain(self, source: str) -> str:
        """Write text; return what of it is to be read again because a closer before it ends the reasoning."""
        writer = self._writer
        start, end = self._closers.find(source, 0, ended=True) if writer.thinking else (0, 0)
        if start == end:
            writer.text(source)
            return ""
        self._rereads += 1
        writer.text(source[:start])
        writer.close(source[start:end])
        return source[end:]

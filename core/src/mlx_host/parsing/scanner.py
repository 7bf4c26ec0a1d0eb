"""An incremental scanner: readers are sequential code that yields where more text is needed.

Every operation is a generator; call it with `yield from`. If the text does not match, it raises CallSyntaxError, at a
position that depends only on the text, not on the chunks. Each character is scanned a bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from mlx_host.parsing.arguments import is_name, json_call, normalize_arguments
from mlx_host.parsing.call_stream import CallStream
from mlx_host.parsing.literal_matcher import literal_matcher
from mlx_host.parsing.parser import ToolCallDelta
from mlx_host.parsing.schema import Schema
from mlx_host.parsing.tools import Tools
from mlx_host.requests import Json

T = TypeVar("T")
ScanGenerator = Generator[None, None, T]

SPACE = re.compile(r"\s*")
NAME = re.compile(r"[^\s<>{}()\[\],;=\"'`|]*")


class CallSyntaxError(Exception):
    """The text is not a valid call, or the output ended before the call was complete."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reader decided about the text since its previous decision: a call, or text if `name` is empty.

    If `streamed` is not empty, `arguments` is a fragment, and only the first decision of a call has its name. The call
    is "completed" or "incomplete" after its last one, which alone has a source.
    """

    source: str
    name: str = ""
    arguments: str = ""
    id: str | None = None
    repaired: bool = False
    streamed: Literal["", "in_progress", "completed", "incomplete"] = ""

    def delta(self) -> ToolCallDelta:
        """Return the part of a decision with a fragment."""
        assert self.streamed
        return ToolCallDelta(self.arguments, self.name, self.id, self.streamed, self.source, self.repaired)


class Scanner:
    """The unread text, `text[pos:]`, and the text that the reader has consumed since its last decision.

    `ended` means that no text follows, `truncated` that the output was cut off there. `call_starts` are the strings
    that begin calls. With `repair`, damaged JSON may be repaired; `repaired` is whether it was since the last decision.
    Readers report the arguments of calls to `stream` as they grow.
    """

    def __init__(self, tools: Sequence[Json] = (), *, repair: bool = True) -> None:
        self.tools = Tools(tools)
        self.text = ""
        self.pos = 0
        self.ended = False
        self.truncated = False
        self.call_starts: tuple[str, ...] = ()
        self.repair = repair
        self.repaired = False
        self._consumed: list[str] = []
        self._decisions: list[Decision] = []
        self.stream = CallStream(self._consumed, self.tools)

    # For parsers.

    def feed(self, text: str) -> None:
        self.text = self.text[self.pos :] + text
        self.pos = 0

    def unread(self, text: str) -> None:
        """Return consumed `text` to the front of the unread text."""
        if self.text.endswith(text, 0, self.pos):
            self.pos -= len(text)
        else:
            self.text = text + self.text[self.pos :]
            self.pos = 0

    def space_ends(self) -> int:
        """Return the index of the next character in `text` that is not whitespace."""
        match = SPACE.match(self.text, self.pos)
        return match.end() if match else self.pos

    def take_decisions(self) -> list[Decision]:
        if self.stream.enabled:
            is_first = not self.stream.is_taken
            if fragment := self.stream.take():
                name = self.stream.name if is_first else ""
                self._decisions.append(Decision("", name, fragment, self.stream.id, streamed="in_progress"))
        decisions, self._decisions = self._decisions, []
        return decisions

    def end_stream(self) -> bool:
        """End a streamed call that the reader could not parse; return whether there was one."""
        if not self.stream.is_reported:
            return False
        self._end_stream(None)
        return True

    def take_source(self) -> str:
        """Return the text consumed since the last decision."""
        source = "".join(self._consumed)
        self._consumed.clear()
        return source

    # Decisions of readers.

    def emit_call(self, name: str, arguments: str, id: str | None = None) -> bool:
        """Emit the text since the last decision as a call; if the call is invalid, emit it as text and return False.

        `arguments` is the JSON text of an object, or of a string that contains one; empty or null means no arguments.
        A name that differs from that of exactly one tool only in case or by the prefix `functions.` becomes the tool's.
        """
        checked = normalize_arguments(arguments)
        if checked is None or not is_name(name):
            self.emit_text()
            return False
        if self.stream.is_reported:
            self._end_stream(checked)
            return True
        self.stream.cancel()
        name = self.tools.resolve(name)
        self._decisions.append(Decision(self.take_source(), name, checked, id or None, self.repaired))
        self.repaired = False
        return True

    def _end_stream(self, arguments: str | None) -> None:
        """Emit the last fragment of the streamed call, or the whole call if nothing of it has been taken."""
        stream, is_cut = self.stream, arguments is None and self.ended and self.truncated
        name, id, is_taken = stream.name, stream.id, stream.is_taken
        rest, is_valid = stream.end(arguments, truncated=is_cut)
        repaired = self.repaired or not (is_valid or is_cut)
        state: Literal["", "completed", "incomplete"] = "incomplete" if is_cut else "completed" if is_taken else ""
        self._decisions.append(Decision(self.take_source(), "" if is_taken else name, rest, id, repaired, state))
        self.repaired = False

    def emit_json_call(
        self,
        raw: str,
        *,
        need_arguments: bool = False,
        only_tools: bool = False,
        id_key: str = "",
        id_pattern: re.Pattern[str] | None = None,
    ) -> bool:
        """Emit a call given as a JSON object with a name and arguments, as `emit_call` does; see `json_call`.

        `id_key` is the key of the call's id; an id that does not match `id_pattern` is dropped. With `need_arguments`
        an object without arguments is text; with `only_tools`, so is a call to an unknown function.
        """
        found = json_call(raw, self.tools.parameters, need_arguments=need_arguments, id_key=id_key)
        if found is None or (only_tools and found[0] not in self.tools):
            self.emit_text()
            return False
        name, arguments, id = found
        known = id is not None and (id_pattern is None or id_pattern.fullmatch(id))
        return self.emit_call(name, arguments, id if known else None)

    def accepts_json_call(self, raw: str) -> bool:
        """Return whether `raw` is a JSON call to one of the tools and conforms to the tool's schema."""
        found = json_call(raw, self.tools.parameters)
        arguments = normalize_arguments(found[1]) if found else None
        return bool(found and arguments and self.tools.accepts(found[0], arguments))

    def emit_text(self) -> None:
        """Emit the text since the last decision as text that is not a call, except for a call that was streamed."""
        if self.end_stream():
            return
        self.stream.cancel()
        self._decisions.append(Decision(self.take_source()))
        self.repaired = False

    def schema(self, function: str) -> Schema:
        """Return the JSON Schema of a function's parameters; it allows anything if the function is unknown."""
        return self.tools.schema(function)

    # Operations of readers.

    def take(self, end: int) -> str:
        """Consume and return `text` up to the index `end`. Not a generator."""
        taken = self.text[self.pos : end]
        if taken:
            self._consumed.append(taken)
            self.pos = end
        return taken

    def mark(self) -> int:
        """Return a mark for `since` and `rewind`, valid until the next decision."""
        return len(self._consumed)

    def since(self, mark: int) -> str:
        return "".join(self._consumed[mark:])

    def rewind(self, mark: int) -> None:
        """Make the text consumed since a mark unread again."""
        text = self.since(mark)
        del self._consumed[mark:]
        self.unread(text)

    def peek(self) -> ScanGenerator[str]:
        """Return the next character without consuming it; "" at the end of the output."""
        while self.pos == len(self.text):
            if self.ended:
                return ""
            yield
        return self.text[self.pos]

    def take_while(self, pattern: re.Pattern[str]) -> ScanGenerator[str]:
        """Consume the match of `pattern`, which must be a repeated character class such as SPACE or NAME."""
        mark = self.mark()
        while True:
            if match := pattern.match(self.text, self.pos):
                self.take(match.end())
            if self.pos < len(self.text) or self.ended:
                return self.since(mark)
            yield

    def space(self) -> ScanGenerator[str]:
        """Consume whitespace, if any."""
        return self.take_while(SPACE)

    def name(self) -> ScanGenerator[str]:
        """Consume an unquoted name of at least one character."""
        name = yield from self.take_while(NAME)
        if not name:
            raise CallSyntaxError
        return name

    def lookahead(self, *strings: str) -> ScanGenerator[str]:
        """Return which of `strings` comes next without consuming it; "" if none does."""
        matcher = literal_matcher(*strings)
        while True:
            found, undecided = matcher.match_at(self.text, self.pos, ended=self.ended)
            if not undecided:
                return found
            yield

    def expect(self, *strings: str) -> ScanGenerator[str]:
        """Consume one of `strings` and return it."""
        found = yield from self.lookahead(*strings)
        if not found:
            raise CallSyntaxError
        self.take(self.pos + len(found))
        return found

    def optional(self, *strings: str) -> ScanGenerator[str]:
        """Consume one of `strings` if it is next, else return "". If the output ends within one, consume the rest."""
        found = yield from self.lookahead(*strings)
        if found:
            self.take(self.pos + len(found))
        elif self.ended and literal_matcher(*strings).is_proper_prefix(self.text[self.pos :]):
            self.take(len(self.text))
        return found

    def until(self, *strings: str) -> ScanGenerator[tuple[str, str]]:
        """Consume text through the first of `strings`; return the text before it, and the string."""
        matcher = literal_matcher(*strings)
        mark = self.mark()
        while True:
            start, end = matcher.find(self.text, self.pos, ended=self.ended)
            self.take(start)
            if start < end:
                value = self.since(mark)
                return value, self.take(end)
            if self.ended:
                raise CallSyntaxError
            yield


ReadFunction = Callable[..., ScanGenerator[None]]
"""Reads calls from a Scanner; a notation's function also takes the closers of the surrounding format."""

"""Reading text that is still arriving: sequential code over a generator that waits where the text runs out.

Every operation is a generator; call it with `yield from`. An operation that does not find what it wants raises NotACall
at a place that depends on the text alone, never on how it was cut. Each character is read a bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mlx_host.parsing.arguments import arguments_of, is_name, json_call
from mlx_host.parsing.literal_matcher import literals
from mlx_host.parsing.schema import Schema
from mlx_host.requests import Json

T = TypeVar("T")
Reading = Generator[None, None, T]

SPACE = re.compile(r"\s*")
NAME = re.compile(r"[^\s<>{}()\[\],;=\"'`|]*")


class NotACall(Exception):
    """The text that is being read cannot be a call, or the answer ended before it was one."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a reader decided about the text since its last decision: a call, or (no `name`) plain text."""

    source: str
    name: str = ""
    arguments: str = ""
    id: str | None = None


class Scanner:
    """The text not yet read, `text[at:]`, and what the current reader has read since its last decision."""

    def __init__(self, tools: Sequence[Json] = ()) -> None:
        self.tools = tools
        self.text = ""
        self.at = 0
        self.ended = False
        self._read: list[str] = []
        self._commits: list[Commit] = []

    # For the state machine.

    def feed(self, text: str) -> None:
        self.text = self.text[self.at :] + text
        self.at = 0

    def unread(self, text: str) -> None:
        """Put `text`, which was read just before, in front of what is unread."""
        if self.text.endswith(text, 0, self.at):
            self.at -= len(text)
        else:
            self.text = text + self.text[self.at :]
            self.at = 0

    def space_ends(self) -> int:
        """Return the index of the next character in `text` that is not white space."""
        match = SPACE.match(self.text, self.at)
        return match.end() if match else self.at

    def take_commits(self) -> list[Commit]:
        commits, self._commits = self._commits, []
        return commits

    def take_source(self) -> str:
        """Return what was read since the last decision."""
        source = "".join(self._read)
        self._read.clear()
        return source

    # For readers: the decisions.

    def call(self, name: str, arguments: str, id: str | None = None) -> bool:
        """Decide that what was read since the last decision is a call; if this makes no valid one, it is text: False.

        `arguments` is JSON text of an object, or of a string that holds one; empty and null mean no arguments.
        """
        checked = arguments_of(arguments)
        if checked is None or not is_name(name):
            self.plain()
            return False
        self._commits.append(Commit(self.take_source(), name, checked, id or None))
        return True

    def json_call(
        self,
        raw: str,
        *,
        need_arguments: bool = False,
        id_key: str = "",
        id_pattern: re.Pattern[str] | None = None,
    ) -> bool:
        """Decide by a JSON object with `name` and `arguments` (or `parameters`): a call, or text.

        `id_key` names the member with the call's id; an id that does not match `id_pattern` is dropped.
        """
        found = json_call(raw, need_arguments=need_arguments, id_key=id_key)
        if found is None:
            self.plain()
            return False
        name, arguments, id = found
        known = id is not None and (id_pattern is None or id_pattern.fullmatch(id))
        return self.call(name, arguments, id if known else None)

    def plain(self) -> None:
        """Decide that what was read since the last decision is text after all."""
        self._commits.append(Commit(self.take_source()))

    def schema(self, function: str) -> Schema:
        """The JSON schema of a function's parameters; it allows anything if the request has none."""
        return Schema.of(self.tools, function)

    # For readers: the operations.

    def take(self, end: int) -> str:
        """Read up to the index `end` of `text`; not a generator."""
        piece = self.text[self.at : end]
        if piece:
            self._read.append(piece)
            self.at = end
        return piece

    def mark(self) -> int:
        """A place for `since`; no decision may come between."""
        return len(self._read)

    def since(self, mark: int) -> str:
        return "".join(self._read[mark:])

    def rewind(self, mark: int) -> None:
        """Give back what was read since a mark, to read it in another way."""
        text = self.since(mark)
        del self._read[mark:]
        self.unread(text)

    def peek(self) -> Reading[str]:
        """The next character, unread; "" at the end of the answer."""
        while self.at == len(self.text):
            if self.ended:
                return ""
            yield
        return self.text[self.at]

    def run(self, pattern: re.Pattern[str]) -> Reading[str]:
        """Read as long as `pattern` goes, which is one repeated character class, such as SPACE or NAME."""
        mark = self.mark()
        while True:
            if match := pattern.match(self.text, self.at):
                self.take(match.end())
            if self.at < len(self.text) or self.ended:
                return self.since(mark)
            yield

    def space(self) -> Reading[str]:
        """Read white space, if there is any."""
        return self.run(SPACE)

    def name(self) -> Reading[str]:
        """Read a bare name, at least one character."""
        name = yield from self.run(NAME)
        if not name:
            raise NotACall
        return name

    def lookahead(self, *strings: str) -> Reading[str]:
        """Return which of `strings` comes next, without reading it; "" if none does."""
        finder = literals(*strings)
        while True:
            found, undecided = finder.next(self.text, self.at, ended=self.ended)
            if not undecided:
                return found
            yield

    def expect(self, *strings: str) -> Reading[str]:
        """Read one of `strings` and return it."""
        found = yield from self.lookahead(*strings)
        if not found:
            raise NotACall
        self.take(self.at + len(found))
        return found

    def optional(self, *strings: str) -> Reading[str]:
        """Read one of `strings` if it comes next, else "". Where the answer ends within one, that much is read."""
        found = yield from self.lookahead(*strings)
        if found:
            self.take(self.at + len(found))
        elif self.ended and literals(*strings).begins(self.text[self.at :]):
            self.take(len(self.text))
        return found

    def until(self, *strings: str) -> Reading[tuple[str, str]]:
        """Read through the first of `strings`; return what stands before it and which it was."""
        finder = literals(*strings)
        mark = self.mark()
        while True:
            start, end = finder.find(self.text, self.at, ended=self.ended)
            self.take(start)
            if start < end:
                value = self.since(mark)
                return value, self.take(end)
            if self.ended:
                raise NotACall
            yield


Reader = Callable[[Scanner], Reading[None]]

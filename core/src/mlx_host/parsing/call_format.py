"""The interfaces for tool calls: `Notation` is the syntax of one call, `CallFormat` that of all calls in an output.

Each parses, constrains and writes the same syntax, so that every marker is defined once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.scanner import ReadFunction, ScanGenerator, Scanner
from mlx_host.parsing.schema_nodes import ToolFunction

CallValues = tuple[str, Mapping[str, Any]]
"""A function's name and its arguments as Python values."""


@dataclass(frozen=True)
class CallStart:
    """A string that begins a call.

    The reader starts after it, or before it if `inclusive`. A `leading` call start counts only if nothing but
    whitespace precedes it since the start of the output, the end of the reasoning or the previous call. One that begins
    with a newline does not count inside a Markdown fence.
    """

    text: str
    inclusive: bool = False
    leading: bool = False

    @property
    def is_markup(self) -> bool:
        """Whether the string begins calls only."""
        return not (self.leading or self.text.startswith("\n"))


class CallReader(ABC):
    """Parses the calls that follow one of its call starts."""

    @property
    @abstractmethod
    def call_starts(self) -> tuple[CallStart, ...]:
        """The strings that begin these calls; the models write the first one."""

    @property
    def syntax(self) -> tuple[str, ...]:
        """Other strings that may become part of a Marker: those between and after calls."""
        return ()

    @property
    def lookalikes(self) -> tuple[str, ...]:
        """Regexes that match a whole text if it may contain such a call without markup."""
        return ()

    @abstractmethod
    def read(self, s: Scanner) -> ScanGenerator[None]:
        """Parse one or more calls from the call start on.

        Call `Scanner.emit_call` or `Scanner.emit_text` for each; raise CallSyntaxError if the text is not a valid call.
        """


class CallFormat(CallReader):
    """A call format of the family's models, in which calls can also be forced."""

    @abstractmethod
    def grammar(self, functions: Sequence[ToolFunction], choice: ToolChoice) -> Grammar:
        """Return the grammar of one call, or of one or more if `choice.parallel`.

        UnsupportedRequestError if a schema cannot be guaranteed.
        """

    @abstractmethod
    def write(self, calls: Sequence[CallValues]) -> str:
        """Write calls as the models do; `grammar` matches the result, and `read` parses it into the same calls."""


@dataclass(frozen=True)
class ReadOnlyCalls(CallReader):
    """A format that is parsed but never forced, such as that of an older model version."""

    reader: CallReader

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        return self.reader.call_starts

    @property
    def syntax(self) -> tuple[str, ...]:
        return self.reader.syntax

    @property
    def lookalikes(self) -> tuple[str, ...]:
        return self.reader.lookalikes

    def read(self, s: Scanner) -> ScanGenerator[None]:
        return self.reader.read(s)


class Notation(ABC):
    """The syntax of one call, without the markup around it."""

    @property
    def starts(self) -> tuple[str, ...]:
        """The strings with which a call may begin; empty if it does not begin with a fixed string."""
        return ()

    @abstractmethod
    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        """Parse a call and, if present, one of the `closers` of the surrounding format, as `CallReader.read` does."""

    @abstractmethod
    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        """Return the grammar of a call to one function."""

    @abstractmethod
    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        """Write a call as the models do; `number` is its index in the output, from 0."""

    def block_reader(self) -> ReadFunction:
        """Return the read function for the calls of one block; override it to keep state between calls."""
        return self.read


@dataclass(frozen=True)
class EitherNotation(Notation):
    """Two notations that are both parsed; the models write the first."""

    written: Notation
    other: Notation

    @property
    def starts(self) -> tuple[str, ...]:
        return self.written.starts + self.other.starts

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        yield from s.space()
        fallback, marked = sorted((self.written, self.other), key=lambda notation: len(notation.starts))
        chosen = marked if (yield from s.lookahead(*marked.starts)) else fallback
        yield from chosen.read(s, *closers)

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        return self.written.grammar(function, choice)

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return self.written.write(name, arguments, number)

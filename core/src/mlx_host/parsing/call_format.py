"""The interfaces for tool calls: a `Notation` is the syntax of one call, a `CallFormat` of all calls in an output.

Each reads, constrains and writes the same syntax, so that a marker is spelled in one place only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.scanner import Reader, Reading, Scanner
from mlx_host.parsing.schema_nodes import Function

CallValues = tuple[str, Mapping[str, Any]]
"""A function's name and its arguments as Python values."""


@dataclass(frozen=True)
class Opener:
    """A string that begins a call.

    The reader starts after it, or before it if `inclusive`. A `leading` opener counts only where nothing but white
    space precedes it since the start of the output, the end of the reasoning or the previous call.
    """

    text: str
    inclusive: bool = False
    leading: bool = False


class CallReader(ABC):
    """Reads the calls that follow one of its openers."""

    @property
    @abstractmethod
    def openers(self) -> tuple[Opener, ...]:
        """The strings that begin these calls; the first is the one that the models write."""

    @property
    def syntax(self) -> tuple[str, ...]:
        """Other strings that may end up in a Marker part: what stands between and after calls."""
        return ()

    @abstractmethod
    def read(self, s: Scanner) -> Reading[None]:
        """Read one or more calls from the opener on.

        Decide with `Scanner.call` and `Scanner.plain`, once for each call; raise NotACall where the text cannot be one.
        """


class CallFormat(CallReader):
    """A format in which the family's models write calls, and in which calls can therefore be forced."""

    @abstractmethod
    def grammar(self, functions: Sequence[Function], choice: ToolChoice) -> Grammar:
        """State one call, or one or more if `choice.parallel`; UnsupportedRequestError if a schema cannot be guaranteed."""

    @abstractmethod
    def write(self, calls: Sequence[CallValues]) -> str:
        """Write calls the way the models do; `grammar` admits the result and `read` gives the same calls."""


@dataclass(frozen=True)
class ReadOnlyCalls(CallReader):
    """A format that is accepted but never forced, such as that of an older model version."""

    form: CallReader

    @property
    def openers(self) -> tuple[Opener, ...]:
        return self.form.openers

    @property
    def syntax(self) -> tuple[str, ...]:
        return self.form.syntax

    def read(self, s: Scanner) -> Reading[None]:
        return self.form.read(s)


class Notation(ABC):
    """The syntax of one call, without what surrounds it."""

    @property
    def begins(self) -> tuple[str, ...]:
        """The strings that a call may begin with; empty if it does not begin with a fixed string."""
        return ()

    @abstractmethod
    def read(self, s: Scanner, *closers: str) -> Reading[None]:
        """Read a call and, if one follows, one of the `closers` of the format around it; decide as CallReader.read."""

    @abstractmethod
    def grammar(self, function: Function, choice: ToolChoice) -> Grammar:
        """State a call of one function."""

    @abstractmethod
    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        """Write a call the way the models do; `number` counts the calls of an output from 0."""

    def block_reader(self) -> Reader:
        """Return the reader for the calls of one block; override it to keep state from one call to the next."""
        return self.read


@dataclass(frozen=True)
class EitherNotation(Notation):
    """Two notations that are both read, of which the models write the first."""

    written: Notation
    other: Notation

    @property
    def begins(self) -> tuple[str, ...]:
        return self.written.begins + self.other.begins

    def read(self, s: Scanner, *closers: str) -> Reading[None]:
        yield from s.space()
        fallback, marked = sorted((self.written, self.other), key=lambda notation: len(notation.begins))
        chosen = marked if (yield from s.lookahead(*marked.begins)) else fallback
        yield from chosen.read(s, *closers)

    def grammar(self, function: Function, choice: ToolChoice) -> Grammar:
        return self.written.grammar(function, choice)

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return self.written.write(name, arguments, number)

"""Call formats: each call between tags, or several calls in one block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing.call_format import CallFormat, CallStart, CallValues, Notation
from mlx_host.parsing.call_grammars import one_or_more
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.scanner import CallSyntaxError, ScanGenerator, Scanner
from mlx_host.parsing.schema_nodes import ToolFunction


@dataclass(frozen=True)
class TaggedCalls(CallFormat):
    """Each call is between an `opener` and a `closer`; a missing closer is accepted if the notation accepts it.

    The models write `gap` inside the tags and `between` between two calls. `bare_starts` are strings that begin a call
    whose opener is missing; the reader starts before them.
    """

    opener: str
    notation: Notation
    closer: str
    gap: str = ""
    between: str = ""
    bare_starts: tuple[str, ...] = ()

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        return CallStart(self.opener), *(CallStart(text, inclusive=True) for text in self.bare_starts)

    @property
    def syntax(self) -> tuple[str, ...]:
        return (self.closer,)

    def read(self, s: Scanner) -> ScanGenerator[None]:
        return self.notation.read(s, self.closer)

    def grammar(self, functions: Sequence[ToolFunction], choice: ToolChoice) -> Grammar:
        call = one_of(*(self.notation.grammar(function, choice) for function in functions))
        return one_or_more(chain(self.opener + self.gap, call, self.gap + self.closer), choice, self.between)

    def write(self, calls: Sequence[CallValues]) -> str:
        head, tail = self.opener + self.gap, self.gap + self.closer
        written = (self.notation.write(name, arguments, n) for n, (name, arguments) in enumerate(calls))
        return self.between.join(f"{head}{call}{tail}" for call in written)


@dataclass(frozen=True)
class CallBlock(CallFormat):
    """One or more calls between an `opener` and an optional `closer`; each begins with one of its notation's `starts`.

    The models write `gap` after the opener and `between` between two calls. `bare_starts` are strings that begin a
    block whose opener is missing. `other_openers` and `other_closers` are accepted as variants.
    """

    opener: str
    notation: Notation
    closer: str
    gap: str = ""
    between: str = ""
    bare_starts: tuple[str, ...] = ()
    other_openers: tuple[str, ...] = ()
    other_closers: tuple[str, ...] = ()

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        tags = (CallStart(text) for text in (self.opener, *self.other_openers))
        return *tags, *(CallStart(text, inclusive=True) for text in self.bare_starts)

    @property
    def syntax(self) -> tuple[str, ...]:
        return self.closer, *self.other_closers

    def read(self, s: Scanner) -> ScanGenerator[None]:
        read_call = self.notation.block_reader()
        yield from s.space()
        if not (yield from s.lookahead(*self.notation.starts)):
            raise CallSyntaxError
        while (yield from s.lookahead(*self.notation.starts)):
            yield from read_call(s, *self.syntax)
            yield from s.space()
        yield from s.optional(*self.syntax)

    def grammar(self, functions: Sequence[ToolFunction], choice: ToolChoice) -> Grammar:
        call = one_of(*(self.notation.grammar(function, choice) for function in functions))
        return chain(self.opener + self.gap, one_or_more(call, choice, self.between), self.closer)

    def write(self, calls: Sequence[CallValues]) -> str:
        written = (self.notation.write(name, arguments, n) for n, (name, arguments) in enumerate(calls))
        return f"{self.opener}{self.gap}{self.between.join(written)}{self.closer}"

"""How calls stand in an output: each between tags, or several in one block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing.call_format import CallFormat, CallValues, Notation, Opener
from mlx_host.parsing.call_grammars import in_turn
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.scanner import NotACall, Reading, Scanner
from mlx_host.parsing.schema_nodes import Function


@dataclass(frozen=True)
class TaggedCalls(CallFormat):
    """Calls between an `opener` and a `closer` each; a missing closer is tolerated if the notation tolerates it.

    The models write `gap` inside the tags and `between` from one call to the next. `bare` are strings that begin a call
    whose opener the model forgot; the reader starts before them.
    """

    opener: str
    notation: Notation
    closer: str
    gap: str = ""
    between: str = ""
    bare: tuple[str, ...] = ()

    @property
    def openers(self) -> tuple[Opener, ...]:
        return Opener(self.opener), *(Opener(text, inclusive=True) for text in self.bare)

    @property
    def syntax(self) -> tuple[str, ...]:
        return (self.closer,)

    def read(self, s: Scanner) -> Reading[None]:
        return self.notation.read(s, self.closer)

    def grammar(self, functions: Sequence[Function], choice: ToolChoice) -> Grammar:
        call = one_of(*(self.notation.grammar(function, choice) for function in functions))
        return in_turn(chain(self.opener + self.gap, call, self.gap + self.closer), choice, self.between)

    def write(self, calls: Sequence[CallValues]) -> str:
        head, tail = self.opener + self.gap, self.gap + self.closer
        written = (self.notation.write(name, arguments, n) for n, (name, arguments) in enumerate(calls))
        return self.between.join(f"{head}{call}{tail}" for call in written)


@dataclass(frozen=True)
class CallBlock(CallFormat):
    """At least one call between an `opener` and an optional `closer`; each call begins as its notation says.

    The models write `gap` after the opener and `between` from one call to the next. `bare` are strings that begin a
    block whose opener the model forgot; `other_openers` and `other_closers` are read in place of the right ones.
    """

    opener: str
    notation: Notation
    closer: str
    gap: str = ""
    between: str = ""
    bare: tuple[str, ...] = ()
    other_openers: tuple[str, ...] = ()
    other_closers: tuple[str, ...] = ()

    @property
    def openers(self) -> tuple[Opener, ...]:
        after = (Opener(text) for text in (self.opener, *self.other_openers))
        return *after, *(Opener(text, inclusive=True) for text in self.bare)

    @property
    def syntax(self) -> tuple[str, ...]:
        return self.closer, *self.other_closers

    def read(self, s: Scanner) -> Reading[None]:
        read_call = self.notation.block_reader()
        yield from s.space()
        if not (yield from s.lookahead(*self.notation.begins)):
            raise NotACall
        while (yield from s.lookahead(*self.notation.begins)):
            yield from read_call(s)
            yield from s.space()
        yield from s.optional(*self.syntax)

    def grammar(self, functions: Sequence[Function], choice: ToolChoice) -> Grammar:
        call = one_of(*(self.notation.grammar(function, choice) for function in functions))
        return chain(self.opener + self.gap, in_turn(call, choice, self.between), self.closer)

    def write(self, calls: Sequence[CallValues]) -> str:
        written = (self.notation.write(name, arguments, n) for n, (name, arguments) in enumerate(calls))
        return f"{self.opener}{self.gap}{self.between.join(written)}{self.closer}"

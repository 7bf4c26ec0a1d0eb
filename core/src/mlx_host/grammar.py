"""Grammars of generated text, as trees of frozen dataclasses.

A Grammar describes text; the backend that compiles it knows which of its strings are single tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ANY = r"(?s:.*)"


class Grammar:
    """The base of all that a grammar can be made of."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class LiteralText(Grammar):
    """This text."""

    text: str


@dataclass(frozen=True, slots=True)
class Pattern(Grammar):
    """Text that matches a regular expression as a whole; `param` is the field of the request that brought it."""

    regex: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class JsonValue(Grammar):
    """JSON that conforms to a schema, its properties in the schema's order; `param` as for Pattern."""

    schema: Mapping[str, Any] | bool
    param: str | None = None


@dataclass(frozen=True, slots=True)
class LarkGrammar(Grammar):
    """Text of a grammar in llguidance's kind of Lark, whose rule `start` is the whole; `param` as for Pattern."""

    source: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class FreeText(Grammar):
    """Any text, the empty one too, in which none of `without` stands and which matches none of `unless` as a whole."""

    without: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TextThrough(Grammar):
    """Text up to and with the first of some strings that has the right text before it.

    That is what matches all regular expressions of `matching` and none of `unless`, each as a whole.
    """

    ends: tuple[str, ...]
    matching: tuple[str, ...] = (ANY,)
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Concat(Grammar):
    """One part after another; without parts, the empty text."""

    parts: tuple[Grammar, ...] = ()


@dataclass(frozen=True, slots=True)
class Alternatives(Grammar):
    """Any one of at least one alternative."""

    parts: tuple[Grammar, ...]


@dataclass(frozen=True, slots=True)
class Repeat(Grammar):
    """A part again and again; `most` None sets no limit."""

    part: Grammar
    least: int = 0
    most: int | None = None


def chain(*parts: Grammar | str) -> Grammar:
    """Join parts, strings standing for Exact."""
    return Concat(tuple(LiteralText(part) if isinstance(part, str) else part for part in parts))


def one_of(*parts: Grammar | str) -> Grammar:
    """Offer alternatives, strings standing for Exact."""
    choices = tuple(LiteralText(part) if isinstance(part, str) else part for part in parts)
    return choices[0] if len(choices) == 1 else Alternatives(choices)


def optional(*parts: Grammar | str) -> Grammar:
    """Allow parts or nothing."""
    return Repeat(chain(*parts), 0, 1)


class Constraint(ABC):
    """What a request asks of its answers' form; a model asks for the grammar once it has rendered the prompt."""

    @abstractmethod
    def grammar(self, generation_prompt: str) -> Grammar:
        """State the answer from its first token, given what the chat template appended after the last message."""


@dataclass(frozen=True, slots=True)
class FixedConstraint(Constraint):
    """The same form whatever the prompt ends with."""

    form: Grammar

    def grammar(self, generation_prompt: str) -> Grammar:
        return self.form


def strip_prefix(grammar: Grammar, prefix: str) -> Grammar | None:
    """What is left of a grammar when `prefix` has been written; None if it cannot begin so.

    The prefix is looked for in what begins with fixed text; it must not go beyond that.
    """
    match grammar:
        case LiteralText(text):
            return LiteralText(text[len(prefix) :]) if text.startswith(prefix) else None
        case Concat((first, *rest)):
            left = strip_prefix(first, prefix)
            return None if left is None else Concat((left, *rest))
        case Alternatives(parts):
            lefts = tuple(left for part in parts if (left := strip_prefix(part, prefix)) is not None)
            return one_of(*lefts) if lefts else None
        case Repeat(part, least, most) if most != 0:
            left = strip_prefix(part, prefix)
            more = Repeat(part, max(0, least - 1), None if most is None else most - 1)
            return None if left is None else Concat((left, more))
    return None


def merge_literals(grammar: Grammar) -> Grammar:
    """The same grammar with fixed texts that follow each other made one, which the lexer takes as a whole."""
    match grammar:
        case Concat(parts):
            whole: list[Grammar] = []
            for part in _flat(map(merge_literals, parts)):
                if isinstance(part, LiteralText) and whole and isinstance(last := whole[-1], LiteralText):
                    whole[-1] = LiteralText(last.text + part.text)
                else:
                    whole.append(part)
            return Concat(tuple(whole))
        case Alternatives(parts):
            return Alternatives(tuple(map(merge_literals, parts)))
        case Repeat(part, least, most):
            return Repeat(merge_literals(part), least, most)
    return grammar


def _flat(parts: Iterable[Grammar]) -> Iterator[Grammar]:
    for part in parts:
        if isinstance(part, Concat):
            yield from _flat(part.parts)
        else:
            yield part


def iter_leaves(grammar: Grammar) -> Iterator[Grammar]:
    """The parts of a grammar that have no parts."""
    match grammar:
        case Concat(parts) | Alternatives(parts):
            for part in parts:
                yield from iter_leaves(part)
        case Repeat(part):
            yield from iter_leaves(part)
        case _:
            yield grammar

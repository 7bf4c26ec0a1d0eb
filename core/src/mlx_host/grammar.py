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
    """Base class of the nodes of a grammar."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class LiteralText(Grammar):
    """Exactly this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Pattern(Grammar):
    """Text that fully matches a regular expression; `param` is the request field that contained it."""

    regex: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class JsonValue(Grammar):
    """JSON that conforms to a schema, with the properties in the schema's order; `param` is as in Pattern."""

    schema: Mapping[str, Any] | bool
    param: str | None = None


@dataclass(frozen=True, slots=True)
class LarkGrammar(Grammar):
    """Text of a grammar in llguidance's Lark syntax with the start rule `start`; `param` is as in Pattern."""

    source: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class FreeText(Grammar):
    """Any text, possibly empty, that contains none of the strings `excluding`.

    `not_matching` are regular expressions that must not match the whole text.
    """

    excluding: tuple[str, ...] = ()
    not_matching: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TextThrough(Grammar):
    """Text up to and including the first of the strings `ends` that follows an allowed text.

    A text is allowed if it fully matches all regular expressions in `matching` and none in `not_matching`.
    """

    ends: tuple[str, ...]
    matching: tuple[str, ...] = (ANY,)
    not_matching: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Concat(Grammar):
    """The parts in sequence; without parts, the empty text."""

    parts: tuple[Grammar, ...] = ()


@dataclass(frozen=True, slots=True)
class Alternatives(Grammar):
    """Any one of the parts, of which there must be at least one."""

    parts: tuple[Grammar, ...]


@dataclass(frozen=True, slots=True)
class Repeat(Grammar):
    """A part, repeated `minimum` to `maximum` times; `maximum` None: no limit."""

    part: Grammar
    minimum: int = 0
    maximum: int | None = None


def chain(*parts: Grammar | str) -> Grammar:
    """Concatenate parts; strings are converted to LiteralText."""
    return Concat(tuple(LiteralText(part) if isinstance(part, str) else part for part in parts))


def one_of(*parts: Grammar | str) -> Grammar:
    """Create alternatives; strings are converted to LiteralText."""
    choices = tuple(LiteralText(part) if isinstance(part, str) else part for part in parts)
    return choices[0] if len(choices) == 1 else Alternatives(choices)


def optional(*parts: Grammar | str) -> Grammar:
    """Concatenate parts and make the result optional; strings are converted to LiteralText."""
    return Repeat(chain(*parts), 0, 1)


class Constraint(ABC):
    """Determines the grammar of a request's output.

    A model calls `grammar` after it has rendered the prompt.
    """

    @abstractmethod
    def grammar(self, generation_prompt: str) -> Grammar:
        """Return the grammar of the output, from its first token.

        `generation_prompt` is the text that the chat template appended after the last message.
        """


@dataclass(frozen=True, slots=True)
class FixedConstraint(Constraint):
    """A constraint whose grammar does not depend on the prompt."""

    output_format: Grammar

    def grammar(self, generation_prompt: str) -> Grammar:
        return self.output_format


def strip_prefix(grammar: Grammar, prefix: str) -> Grammar | None:
    """Return the grammar of the text that may follow `prefix`; None if the grammar does not allow this prefix.

    Only literal text is compared: the prefix must not extend beyond the LiteralText at the start of the grammar.
    """
    match grammar:
        case LiteralText(text):
            return LiteralText(text[len(prefix) :]) if text.startswith(prefix) else None
        case Concat((first, *rest)):
            remainder = strip_prefix(first, prefix)
            return None if remainder is None else Concat((remainder, *rest))
        case Alternatives(parts):
            remainders = [strip_prefix(part, prefix) for part in parts]
            choices = [remainder for remainder in remainders if remainder is not None]
            return one_of(*choices) if choices else None
        case Repeat(part, minimum, maximum) if maximum != 0:
            remainder = strip_prefix(part, prefix)
            more = Repeat(part, max(0, minimum - 1), None if maximum is None else maximum - 1)
            return None if remainder is None else Concat((remainder, more))
    return None


def merge_literals(grammar: Grammar) -> Grammar:
    """Return the grammar with adjacent literals merged, so that the lexer matches them as one lexeme."""
    match grammar:
        case Concat(parts):
            merged: list[Grammar] = []
            for part in _flatten(map(merge_literals, parts)):
                if isinstance(part, LiteralText) and merged and isinstance(last := merged[-1], LiteralText):
                    merged[-1] = LiteralText(last.text + part.text)
                else:
                    merged.append(part)
            return Concat(tuple(merged))
        case Alternatives(parts):
            return Alternatives(tuple(map(merge_literals, parts)))
        case Repeat(part, minimum, maximum):
            return Repeat(merge_literals(part), minimum, maximum)
    return grammar


def _flatten(parts: Iterable[Grammar]) -> Iterator[Grammar]:
    for part in parts:
        if isinstance(part, Concat):
            yield from _flatten(part.parts)
        else:
            yield part


def iter_leaves(grammar: Grammar) -> Iterator[Grammar]:
    """Iterate over the leaves of a grammar."""
    match grammar:
        case Concat(parts) | Alternatives(parts):
            for part in parts:
                yield from iter_leaves(part)
        case Repeat(part):
            yield from iter_leaves(part)
        case _:
            yield grammar

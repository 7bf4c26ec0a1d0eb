"""Grammars of the output, as trees of frozen dataclasses, and their conversion to llguidance's syntax.

A Grammar describes text. Which of its strings are special tokens depends on the tokenizer, so they are an argument of
`to_llguidance`. The syntax is that of llguidance 1.x: docs/syntax.md and docs/json_schema.md of its repository.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ANY = r"(?s:.*)"
# Models can get stuck in endless whitespace, so only the usual space after a comma or colon is allowed. Escapes of the
# form \uXXXX are excluded because llguidance recognizes only one spelling of a key, and because they allow lone
# surrogates.
JSON_LAYOUT = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "json_allowed_escapes": 'nrbtf\\"',
}


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
    """One of the parts; there must be at least one."""

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


def to_llguidance(grammar: Grammar, special: Mapping[str, int]) -> str:
    """Convert a grammar to llguidance's syntax; `special` maps the texts of special tokens to their ids."""
    return _LlguidanceWriter(special).write(grammar)


# Expressions shorter than this are inlined instead of becoming a rule.
_MAX_INLINE_LENGTH = 40


class _LlguidanceWriter:
    def __init__(self, special: Mapping[str, int]) -> None:
        self._special = special
        texts = sorted(filter(None, special), key=len, reverse=True)
        self._special_pattern = re.compile(f"({'|'.join(map(re.escape, texts))})" if texts else r"(?!)()")
        self._rules: dict[str, str] = {}
        self._rule_names: dict[tuple[str, str], str] = {}
        self._expressions: dict[int, str] = {}
        self._lark_grammars: list[dict[str, str]] = []

    def write(self, grammar: Grammar) -> str:
        start = self._expression(grammar)
        rules = "\n".join(f"{name}: {body}" for name, body in self._rules.items())
        main = {"name": "output", "lark_grammar": f"start: {start}\n{rules}\n"}
        return json.dumps({"grammars": [main, *self._lark_grammars]})

    def _expression(self, grammar: Grammar) -> str:
        """Return the expression of a node; a node that occurs several times in the tree is converted once."""
        if id(grammar) not in self._expressions:
            self._expressions[id(grammar)] = self._convert(grammar)
        return self._expressions[id(grammar)]

    def _convert(self, grammar: Grammar) -> str:
        match grammar:
            case LiteralText(text):
                return " ".join(self._terminals(text)) or '""'
            case Concat(parts):
                return self._group(" ".join(map(self._expression, parts)) or '""')
            case Alternatives(parts):
                return self._group(" | ".join(map(self._expression, parts)))
            case Repeat(part, minimum, maximum):
                return f"({self._expression(part)}){{{minimum},{'' if maximum is None else maximum}}}"
            case FreeText(excluding, not_matching):
                containing = [f"(?s:.*)(?:{_any_of(excluding)})(?s:.*)"] if excluding else []
                return self._lexeme([ANY], [*containing, *not_matching])
            case Pattern(regex):
                return self._lexeme([regex], [])
            case JsonValue(schema):
                keywords = {**_schema_object(schema), "x-guidance": JSON_LAYOUT}
                return self._rule("json", f"%json {json.dumps(keywords)}")
            case LarkGrammar(source):
                name = f"lark{len(self._lark_grammars)}"
                self._lark_grammars.append({"name": name, "lark_grammar": source})
                return f"@{name}"
            case TextThrough():
                return self._group(" | ".join(self._text_through(grammar)))
        raise TypeError(f"expected a Grammar of mlx_host.grammar, got {grammar!r}")

    def _text_through(self, grammar: TextThrough) -> Iterator[str]:
        """Yield an alternative for each end that contains a special token, then one for all other ends.

        The ends without special tokens become one lazy lexeme. Special tokens cannot occur in a lexeme, so before them
        the text need not be lazy.
        """
        plain_ends = [end for end in grammar.ends if not self._special_pattern.search(end)]
        for end in grammar.ends:
            if end not in plain_ends:
                before, *rest = self._special_pattern.split(end, maxsplit=1)
                matching = [f"(?:{regex}){re.escape(before)}" for regex in grammar.matching]
                not_matching = [f"(?:{regex}){re.escape(before)}" for regex in grammar.not_matching]
                # Ordinary tokens can spell a special token's text: exclude it, so that the text stops at the first end.
                spelled_out = [f"(?s:.*)(?:{_any_of(grammar.ends)})(?s:.*)"] if grammar.matching == (ANY,) else []
                text = self._lexeme(matching, not_matching + spelled_out)
                yield " ".join([text, *self._terminals("".join(rest))])
        if plain_ends:
            end = f"(?:{_any_of(plain_ends)})"
            matching = [f"(?:{regex}){end}" for regex in grammar.matching]
            not_matching = [f"(?:{regex}){end}" for regex in grammar.not_matching]
            yield self._lexeme(matching, not_matching, lazy=True)

    def _lexeme(self, matching: Sequence[str], not_matching: Sequence[str], *, lazy: bool = False) -> str:
        """Return the name of a lexeme; an intersection of several regexes needs a terminal (an upper-case name)."""
        regexes = [f"/{_escape_slashes(regex)}/" for regex in matching]
        regexes += [f"~/{_escape_slashes(regex)}/" for regex in not_matching]
        body = regexes[0] if len(regexes) == 1 else self._rule("TEXT", " & ".join(regexes))
        return self._rule("lazy" if lazy else "text", body, lazy=lazy)

    def _group(self, body: str) -> str:
        return f"({body})" if len(body) < _MAX_INLINE_LENGTH else self._rule("part", body)

    def _terminals(self, text: str) -> Iterator[str]:
        """Split a literal text into special tokens and quoted strings."""
        for piece in filter(None, self._special_pattern.split(text)):
            yield f"<[{self._special[piece]}]>" if piece in self._special else json.dumps(piece, ensure_ascii=False)

    def _rule(self, kind: str, body: str, *, lazy: bool = False) -> str:
        """Return the name of the rule with this body; rules with the same body are defined once."""
        key = (kind, body)
        if key not in self._rule_names:
            name = self._rule_names[key] = f"{kind}{len(self._rule_names)}"
            self._rules[name + "[lazy]" * lazy] = body
        return self._rule_names[key]


def _schema_object(schema: Mapping[str, Any] | bool) -> Mapping[str, Any]:
    """Return a schema as an object: `true` allows everything, `false` nothing."""
    if isinstance(schema, Mapping):
        return schema
    return {} if schema else {"enum": []}


def _any_of(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, texts))


def _escape_slashes(regex: str) -> str:
    """Escape a regular expression for Lark's /.../ syntax."""

    def escape(found: re.Match[str]) -> str:
        return {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}.get(found[0], found[0])

    return re.sub(r"\\.|/|\n", escape, regex, flags=re.DOTALL)

"""What an answer may be made of, as a tree of frozen dataclasses, and how the tree is written for llguidance.

A Grammar speaks of text. Which of its strings are single tokens is known only where the tokenizer is, so
`to_llguidance` takes them as an argument. The syntax is that of llguidance 1.x, as docs/syntax.md and
docs/json_schema.md of its repository have it.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ANY = r"(?s:.*)"
# Blanks are the easiest thing to say for ever; one after a comma or colon is what models write most. Without \u no key
# can be written in two ways, of which llguidance knows one, and no string can hold half a surrogate pair.
JSON_LAYOUT = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "json_allowed_escapes": 'nrbtf\\"',
}


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


def to_llguidance(grammar: Grammar, special: Mapping[str, int]) -> str:
    """Write a grammar as llguidance reads it; `special` are the texts that only a token of their own stands for."""
    return _Writer(special).write(grammar)


# Rules shorter than this stand where they are used.
_SHORT = 40


class _Writer:
    def __init__(self, special: Mapping[str, int]) -> None:
        self._special = special
        texts = sorted(filter(None, special), key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, texts))})" if texts else r"(?!)()")
        self._rules: dict[str, str] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._written: dict[int, str] = {}
        self._grammars: list[dict[str, str]] = []

    def write(self, grammar: Grammar) -> str:
        start = self._expression(grammar)
        rules = "\n".join(f"{name}: {body}" for name, body in self._rules.items())
        main = {"name": "answer", "lark_grammar": f"start: {start}\n{rules}\n"}
        return json.dumps({"grammars": [main, *self._grammars]})

    def _expression(self, grammar: Grammar) -> str:
        """Write a part, once however often it stands in the tree."""
        if id(grammar) not in self._written:
            self._written[id(grammar)] = self._write(grammar)
        return self._written[id(grammar)]

    def _write(self, grammar: Grammar) -> str:
        match grammar:
            case LiteralText(text):
                return " ".join(self._pieces(text)) or '""'
            case Concat(parts):
                return self._group(" ".join(map(self._expression, parts)) or '""')
            case Alternatives(parts):
                return self._group(" | ".join(map(self._expression, parts)))
            case Repeat(part, least, most):
                return f"({self._expression(part)}){{{least},{'' if most is None else most}}}"
            case FreeText(without, unless):
                texts = [f"(?s:.*)(?:{_either(without)})(?s:.*)"] if without else []
                return self._text([ANY], [*texts, *unless])
            case Pattern(regex):
                return self._text([regex], [])
            case JsonValue(schema):
                laid_out = {**(schema if isinstance(schema, Mapping) else _whether(schema)), "x-guidance": JSON_LAYOUT}
                return self._rule("json", f"%json {json.dumps(laid_out)}")
            case LarkGrammar(source):
                name = f"lark{len(self._grammars)}"
                self._grammars.append({"name": name, "lark_grammar": source})
                return f"@{name}"
            case TextThrough():
                return self._group(" | ".join(self._until(grammar)))
        raise TypeError(f"{grammar!r} is no Grammar of this module")

    def _until(self, until: TextThrough) -> Iterator[str]:
        """A lexeme as short as can be for the ends that are text; tokens of their own cannot be in text anyway."""
        texts = [end for end in until.ends if not self._split.search(end)]
        for end in until.ends:
            if end not in texts:
                before, *rest = self._split.split(end, maxsplit=1)
                matching = [f"(?:{regex}){re.escape(before)}" for regex in until.matching]
                unless = [f"(?:{regex}){re.escape(before)}" for regex in until.unless]
                # What a token stands for can be spelled, too.
                spelled = [f"(?s:.*)(?:{_either(until.ends)})(?s:.*)"] if until.matching == (ANY,) else []
                yield " ".join([self._text(matching, unless + spelled), *self._pieces("".join(rest))])
        if texts:
            last = f"(?:{_either(texts)})"
            matching, unless = ([f"(?:{regex}){last}" for regex in side] for side in (until.matching, until.unless))
            yield self._text(matching, unless, lazy=True)

    def _text(self, matching: Sequence[str], unless: Sequence[str], *, lazy: bool = False) -> str:
        """The name of a lexeme; those that say more than one thing need a terminal, which has an upper-case name."""
        said = [f"/{_slashed(regex)}/" for regex in matching] + [f"~/{_slashed(regex)}/" for regex in unless]
        body = said[0] if len(said) == 1 else self._rule("TEXT", " & ".join(said))
        return self._rule("lazy" if lazy else "text", body, lazy=lazy)

    def _group(self, body: str) -> str:
        return f"({body})" if len(body) < _SHORT else self._rule("part", body)

    def _pieces(self, text: str) -> Iterator[str]:
        for piece in filter(None, self._split.split(text)):
            yield f"<[{self._special[piece]}]>" if piece in self._special else json.dumps(piece, ensure_ascii=False)

    def _rule(self, kind: str, body: str, *, lazy: bool = False) -> str:
        """The name of the rule with this body, which is written once."""
        key = (kind, body)
        if key not in self._names:
            name = self._names[key] = f"{kind}{len(self._names)}"
            self._rules[name + "[lazy]" * lazy] = body
        return self._names[key]


def _whether(schema: bool) -> dict[str, Any]:
    return {} if schema else {"enum": []}


def _either(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, texts))


def _slashed(regex: str) -> str:
    """A regular expression as it stands between slashes."""

    def escape(found: re.Match[str]) -> str:
        return {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}.get(found[0], found[0])

    return re.sub(r"\\.|/|\n", escape, regex, flags=re.DOTALL)

"""Writes a grammar in llguidance's syntax.

The syntax is that of llguidance 1.x, documented in docs/syntax.md and docs/json_schema.md of its repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlx_host.grammar import (
    ANY,
    Alternatives,
    Concat,
    FreeText,
    Grammar,
    JsonValue,
    LarkGrammar,
    LiteralText,
    Pattern,
    Repeat,
    TextThrough,
)

# Models tend to repeat whitespace forever; one space after a comma or colon is what they write most. Without \u, keys
# have one spelling, as llguidance assumes, and strings cannot contain half a surrogate pair.
JSON_LAYOUT = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "json_allowed_escapes": 'nrbtf\\"',
}
# Expressions shorter than this are written inline.
MAX_INLINE_LENGTH = 40


def to_llguidance(grammar: Grammar, special: Mapping[str, int]) -> str:
    """Write a grammar for llguidance; `special` maps the texts of special tokens to their ids."""
    return _Writer(special).write(grammar)


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
        main = {"name": "output", "lark_grammar": f"start: {start}\n{rules}\n"}
        return json.dumps({"grammars": [main, *self._grammars]})

    def _expression(self, grammar: Grammar) -> str:
        """Write a part once, however many places share it."""
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
            case Repeat(part, minimum, maximum):
                return f"({self._expression(part)}){{{minimum},{'' if maximum is None else maximum}}}"
            case FreeText(without, unless):
                texts = [f"(?s:.*)(?:{_either(without)})(?s:.*)"] if without else []
                return self._text([ANY], [*texts, *unless])
            case Pattern(regex):
                return self._text([regex], [])
            case JsonValue(schema):
                with_layout = {
                    **(schema if isinstance(schema, Mapping) else _as_object(schema)),
                    "x-guidance": JSON_LAYOUT,
                }
                return self._rule("json", f"%json {json.dumps(with_layout)}")
            case LarkGrammar(source):
                name = f"lark{len(self._grammars)}"
                self._grammars.append({"name": name, "lark_grammar": source})
                return f"@{name}"
            case TextThrough():
                return self._group(" | ".join(self._until(grammar)))
        raise TypeError(f"{grammar!r} is not a Grammar of mlx_host.grammar")

    def _until(self, until: TextThrough) -> Iterator[str]:
        """A lazy lexeme for the ends that are text; special tokens cannot occur in text."""
        texts = [end for end in until.ends if not self._split.search(end)]
        for end in until.ends:
            if end not in texts:
                before, *rest = self._split.split(end, maxsplit=1)
                matching = [f"(?:{regex}){re.escape(before)}" for regex in until.matching]
                unless = [f"(?:{regex}){re.escape(before)}" for regex in until.unless]
                # The text of a special token can also be spelled with other tokens.
                spelled = [f"(?s:.*)(?:{_either(until.ends)})(?s:.*)"] if until.matching == (ANY,) else []
                yield " ".join([self._text(matching, unless + spelled), *self._pieces("".join(rest))])
        if texts:
            last = f"(?:{_either(texts)})"
            matching, unless = ([f"(?:{regex}){last}" for regex in side] for side in (until.matching, until.unless))
            yield self._text(matching, unless, lazy=True)

    def _text(self, matching: Sequence[str], unless: Sequence[str], *, lazy: bool = False) -> str:
        """The name of a lexeme; combinations of several expressions need a terminal, which has an upper-case name."""
        expressions = [f"/{_escape_slashes(regex)}/" for regex in matching] + [
            f"~/{_escape_slashes(regex)}/" for regex in unless
        ]
        body = expressions[0] if len(expressions) == 1 else self._rule("TEXT", " & ".join(expressions))
        return self._rule("lazy" if lazy else "text", body, lazy=lazy)

    def _group(self, body: str) -> str:
        return f"({body})" if len(body) < MAX_INLINE_LENGTH else self._rule("part", body)

    def _pieces(self, text: str) -> Iterator[str]:
        for piece in filter(None, self._split.split(text)):
            yield f"<[{self._special[piece]}]>" if piece in self._special else json.dumps(piece, ensure_ascii=False)

    def _rule(self, kind: str, body: str, *, lazy: bool = False) -> str:
        """The name of the rule with this body; equal bodies share a rule."""
        key = (kind, body)
        if key not in self._names:
            name = self._names[key] = f"{kind}{len(self._names)}"
            self._rules[name + "[lazy]" * lazy] = body
        return self._names[key]


def _as_object(schema: bool) -> dict[str, Any]:
    return {} if schema else {"enum": []}


def _either(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, texts))


def _escape_slashes(regex: str) -> str:
    """A regular expression for use between slashes."""

    def escape(found: re.Match[str]) -> str:
        return {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}.get(found[0], found[0])

    return re.sub(r"\\.|/|\n", escape, regex, flags=re.DOTALL)

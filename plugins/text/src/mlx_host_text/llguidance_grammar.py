"""Converts grammars to llguidance's syntax.

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

# Models can get stuck in endless whitespace, so only the usual space after a comma or colon is allowed. Escapes of the
# form \uXXXX are excluded because llguidance recognizes only one spelling of a key, and because they allow lone
# surrogates.
JSON_LAYOUT = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "json_allowed_escapes": 'nrbtf\\"',
}
# Expressions shorter than this are inlined instead of becoming a rule.
MAX_INLINE_LENGTH = 40


def to_llguidance(grammar: Grammar, special: Mapping[str, int]) -> str:
    """Convert a grammar to llguidance's syntax; `special` maps the texts of special tokens to their ids."""
    return _LlguidanceWriter(special).write(grammar)


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
        return f"({body})" if len(body) < MAX_INLINE_LENGTH else self._rule("part", body)

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

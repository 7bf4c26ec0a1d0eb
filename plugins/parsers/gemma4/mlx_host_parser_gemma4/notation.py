"""Gemma's notation of calls: bare keys, strings between delimiters, other values as in JSON.

The parser of FunctionGemma uses this module, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, JsonValue, Repeat, TextThrough, chain, one_of, optional
from mlx_host.parsing import (
    BareText,
    CallFormat,
    CallValues,
    Function,
    Opener,
    Place,
    Reading,
    Scanner,
    ToolChoice,
    in_turn,
    kinds,
    named,
    separated,
    separated_parameters,
    undeclared,
    values,
)

from mlx_host_parser_gemma4.reading import CallReading, Tokens

_NAMES = re.compile(r"[^\s<>{}()\"',]+")
_KEYS = re.compile(r"[^\s:,{}\[\]<>\"'`|]+")
# Nesting of values that the schema does not describe; the grammar is written out for each level.
_MAX_FREE_DEPTH = 4


@dataclass(frozen=True)
class GemmaCalls(CallFormat):
    """Calls as `call:NAME{KEY:VALUE,…}` between the tokens of a family."""

    tokens: Tokens

    @property
    def openers(self) -> tuple[Opener, ...]:
        return (Opener(self.tokens.opener),)

    @property
    def syntax(self) -> tuple[str, ...]:
        return (self.tokens.closer,)

    def read(self, s: Scanner) -> Reading[None]:
        return CallReading(s, self.tokens).read()

    def grammar(self, functions: Sequence[Function], choice: ToolChoice) -> Grammar:
        grammars = _Grammars(self.tokens.delimiter)
        calls = [
            chain(f"call:{named(function, _NAMES)}", grammars.object(function.parameters)) for function in functions
        ]
        return in_turn(chain(self.tokens.opener, one_of(*calls), self.tokens.closer), choice)

    def write(self, calls: Sequence[CallValues]) -> str:
        return "".join(self.write_call(name, self._object(arguments)) for name, arguments in calls)

    def write_call(self, name: str, arguments: str) -> str:
        """Write one call with its arguments exactly as given, braces included."""
        return f"{self.tokens.opener}call:{name}{arguments}{self.tokens.closer}"

    def _object(self, members: Mapping[str, Any]) -> str:
        return "{" + ",".join(f"{key}:{self._value(value)}" for key, value in members.items()) + "}"

    def _value(self, value: object) -> str:
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list):
            return "[" + ",".join(map(self._value, value)) + "]"
        if isinstance(value, str):
            return f"{self.tokens.delimiter}{value}{self.tokens.delimiter}"
        return json.dumps(value)


class _Grammars:
    """The grammars of what a schema allows, as this notation writes it."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._text = BareText(delimiter)

    def object(self, place: Place) -> Grammar:
        return chain("{", separated_parameters(place, ":", _KEYS, self._value, ","), "}")

    def _value(self, place: Place) -> Grammar:
        texts, others = kinds(place)
        strings = [chain(self._delimiter, self._text.strings(part)) for part in texts]
        return one_of(*strings, *map(self._other, others))

    def _other(self, part: Place) -> Grammar:
        types = part.types()
        if types == {"object"} and values(part) is None:
            return self.object(part)
        if types == {"array"} and values(part) is None:
            return self._array(part)
        if not part.says():
            return self._anything(_MAX_FREE_DEPTH)
        if not types or types & {"array", "object"}:
            part.refuse(min(part.says()))
        return part.json()

    def _array(self, place: Place) -> Grammar:
        node = place.node
        for keyword in ("prefixItems", "contains", "uniqueItems"):
            if keyword in node:
                place.refuse(keyword)
        least, most = node.get("minItems", 0), node.get("maxItems")
        item = self._value(place.at(node.get("items", {})))
        if most is not None and most < max(least, 1):
            return chain("[]")
        more = Repeat(chain(",", item), max(least - 1, 0), None if most is None else most - 1)
        return chain("[", chain(item, more) if least else optional(item, more), "]")

    def _anything(self, depth: int) -> Grammar:
        """State any value, nested no deeper than this."""
        plain = JsonValue({"type": ["boolean", "null", "number"]})
        choices = [chain(self._delimiter, TextThrough((self._delimiter,))), plain]
        if depth:
            inner = self._anything(depth - 1)
            member = chain(undeclared(":", (), _KEYS), inner)
            choices += [chain("{", separated((), member, ","), "}"), chain("[", separated((), inner, ","), "]")]
        return one_of(*choices)

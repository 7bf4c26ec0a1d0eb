"""The grammar of calls in Gemma's notation: bare keys, strings between delimiters, all else as in JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mlx_host.grammar import Grammar, JsonValue, Repeated, TextUntil, chain, one_of, optional
from mlx_host.parsing import (
    BareText,
    Place,
    functions,
    kinds,
    members,
    named,
    separated,
    undeclared,
    values,
    writable,
)
from mlx_host.requests import Json
from mlx_host_parser_gemma4_notation import Notation

_NAMES = re.compile(r"[^\s<>{}()\"',]+")
_KEYS = re.compile(r"[^\s:,{}\[\]<>\"'`|]+")
# Of values that the schema says nothing of; the grammar is written out for each level.
_DEEPEST_ANYTHING = 4


def call_grammar(tools: Iterable[Json], notation: Notation) -> Grammar:
    """A call to any of the tools."""
    grammars = _Grammars(notation.delimiter)
    calls = [
        chain(f"call:{named(function, _NAMES)}", grammars.object(function.parameters)) for function in functions(tools)
    ]
    return chain(notation.opener, one_of(*calls), notation.closer)


class _Grammars:
    """The notation's grammars of what a schema allows."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._text = BareText(delimiter)

    def object(self, place: Place) -> Grammar:
        declared, others = members(place)
        parts = [
            (chain(writable(member.key, _KEYS, place.tool) + ":", self._value(member.place)), member.required)
            for member in declared
        ]
        more = None
        if others is not None:
            more = chain(undeclared(":", [member.key for member in declared], _KEYS), self._value(others))
        return chain("{", separated(parts, more, ","), "}")

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
            return self._anything(_DEEPEST_ANYTHING)
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
        more = Repeated(chain(",", item), max(least - 1, 0), None if most is None else most - 1)
        return chain("[", chain(item, more) if least else optional(item, more), "]")

    def _anything(self, depth: int) -> Grammar:
        """Any value, nested no deeper than this."""
        plain = JsonValue({"type": ["boolean", "null", "number"]})
        choices = [chain(self._delimiter, TextUntil((self._delimiter,))), plain]
        if depth:
            inner = self._anything(depth - 1)
            member = chain(undeclared(":", (), _KEYS), inner)
            choices += [chain("{", separated((), member, ","), "}"), chain("[", separated((), inner, ","), "]")]
        return one_of(*choices)

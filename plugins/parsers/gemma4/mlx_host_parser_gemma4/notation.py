"""Gemma's notation of calls: unquoted keys, strings between delimiters, other values as in JSON.

    call    = opener , "call:" , NAME , object , closer ;
    object  = "{" , [ KEY , ":" , value , { "," , KEY , ":" , value } ] , "}" ;
    array   = "[" , [ value , { "," , value } ] , "]" ;
    value   = object | array | delimiter , text , delimiter | number | "true" | "false" | "null" ;

Gemma 4's opener, closer and delimiter are `<|tool_call>`, `<tool_call|>` and `<|"|>`. call_parser.py parses the many
deviations of the models. The parser of FunctionGemma also uses this module, with other tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, JsonValue, Repeat, TextThrough, chain, one_of, optional
from mlx_host.parsing import (
    CallFormat,
    CallStart,
    CallValues,
    ScanGenerator,
    Scanner,
    SchemaNode,
    ToolChoice,
    ToolFunction,
    UnquotedValue,
    check_function_name,
    enum_values,
    one_or_more,
    separated_list,
    separated_parameters,
    split_by_type,
    undeclared_key,
)

from mlx_host_parser_gemma4.call_parser import CallParser, CallTokens

_NAMES = re.compile(r"[^\s<>{}()\"',]+")
_KEYS = re.compile(r"[^\s:=,{}\[\]<>\"'`|]+")
# The depth of values without a schema; the grammar is expanded for each level.
_MAX_FREE_DEPTH = 4


@dataclass(frozen=True)
class GemmaCalls(CallFormat):
    """Calls as `call:NAME{KEY:VALUE,…}` between a family's tokens."""

    tokens: CallTokens

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        return (CallStart(self.tokens.opener),)

    @property
    def syntax(self) -> tuple[str, ...]:
        return (self.tokens.closer,)

    def read(self, s: Scanner) -> ScanGenerator[None]:
        return CallParser(s, self.tokens).read()

    def grammar(self, functions: Sequence[ToolFunction], choice: ToolChoice) -> Grammar:
        grammars = _Grammars(self.tokens.delimiter)
        calls = [
            chain(f"call:{check_function_name(function, _NAMES)}", grammars.object(function.parameters))
            for function in functions
        ]
        return one_or_more(chain(self.tokens.opener, one_of(*calls), self.tokens.closer), choice)

    def write(self, calls: Sequence[CallValues]) -> str:
        return "".join(self.write_call(name, self._object(arguments)) for name, arguments in calls)

    def write_call(self, name: str, arguments: str) -> str:
        """Write one call; `arguments` includes the braces and is written verbatim."""
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
    """The grammars of the values that a schema allows, in this notation."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._text = UnquotedValue(delimiter)

    def object(self, node: SchemaNode) -> Grammar:
        return chain("{", separated_parameters(node, ":", _KEYS, self._value, ","), "}")

    def _value(self, node: SchemaNode) -> Grammar:
        texts, others = split_by_type(node)
        strings = [chain(self._delimiter, self._text.strings(part)) for part in texts]
        return one_of(*strings, *map(self._other, others))

    def _other(self, part: SchemaNode) -> Grammar:
        types = part.types()
        if types == {"object"} and enum_values(part) is None:
            return self.object(part)
        if types == {"array"} and enum_values(part) is None:
            return self._array(part)
        if not part.keywords():
            return self._anything(_MAX_FREE_DEPTH)
        if not types or types & {"array", "object"}:
            part.reject(min(part.keywords()))
        return part.json()

    def _array(self, node: SchemaNode) -> Grammar:
        raw = node.raw
        for keyword in ("prefixItems", "contains", "uniqueItems"):
            if keyword in raw:
                node.reject(keyword)
        min_items, max_items = raw.get("minItems", 0), raw.get("maxItems")
        item = self._value(node.subschema(raw.get("items", {})))
        if max_items is not None and max_items < max(min_items, 1):
            return chain("[]")
        more = Repeat(chain(",", item), max(min_items - 1, 0), None if max_items is None else max_items - 1)
        return chain("[", chain(item, more) if min_items else optional(item, more), "]")

    def _anything(self, depth: int) -> Grammar:
        """Return the grammar of any value nested at most `depth` deep."""
        plain = JsonValue({"type": ["boolean", "null", "number"]})
        choices = [chain(self._delimiter, TextThrough((self._delimiter,))), plain]
        if depth:
            inner = self._anything(depth - 1)
            member = chain(undeclared_key(":", (), _KEYS), inner)
            choices += [
                chain("{", separated_list((), member, ","), "}"),
                chain("[", separated_list((), inner, ","), "]"),
            ]
        return one_of(*choices)

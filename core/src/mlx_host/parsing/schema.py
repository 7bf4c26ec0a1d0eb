"""Values that arrive as bare text, typed by the tool's JSON schema."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from mlx_host.parsing.arguments import is_json, json_string
from mlx_host.requests import Json

_ALL = frozenset({"null", "boolean", "integer", "number", "object", "array", "string"})
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

# Tools come from clients: references may go in circles and alternatives may nest without end.
_MOST_REFERENCES = 32
_MOST_NODES = 100


class Schema:
    """One place in a JSON schema; `root` is where its references point. A place it says nothing of allows anything."""

    def __init__(self, node: object, root: object) -> None:
        self._root = root
        self._node = self._follow(node)

    @classmethod
    def of(cls, tools: Sequence[Json], function: str) -> Schema:
        """The parameters of one of OpenAI's `tools`."""
        for tool in tools:
            declared = tool.get("function", tool)
            if isinstance(declared, Mapping) and declared.get("name") == function:
                return cls(declared.get("parameters"), declared.get("parameters"))
        return cls(None, None)

    def member(self, key: str) -> Schema:
        """The schema of an object's member."""
        for node in self._nodes(self._node, set()):
            properties = node.get("properties")
            if isinstance(properties, Mapping) and key in properties:
                return Schema(properties[key], self._root)
        return self._first("additionalProperties")

    def members(self) -> frozenset[str]:
        """The names of an object's members that it declares."""
        declared = (node.get("properties") for node in self._nodes(self._node, set()))
        return frozenset(key for properties in declared if isinstance(properties, Mapping) for key in properties)

    def item(self) -> Schema:
        """The schema of an array's items."""
        return self._first("items")

    def types(self) -> frozenset[str]:
        """JSON schema's names of the types allowed here; empty if it does not say."""
        return self._types(self._node, {}) or frozenset()

    def json(self, text: str) -> str:
        """Return bare `text` as JSON text of a type that is allowed here.

        Text it stays where only text is allowed or nothing else fits. Without a schema it is JSON if it parses.
        """
        types = self.types()
        if types == {"string"}:
            return json_string(text)
        bare = text.strip()
        if not types:
            return bare if is_json(bare) else json_string(text)
        if "null" in types and (bare == "null" or (bare == "None" and "string" not in types)):
            return "null"
        if "boolean" in types and bare in ("true", "false", "True", "False"):
            return bare.lower()
        if types & {"integer", "number"} and _NUMBER.fullmatch(bare) and is_json(bare):
            # Where there may be text or an integer, a fraction is text.
            return bare if "number" in types or "string" not in types or _INTEGER.fullmatch(bare) else json_string(text)
        for name, python, bracket in (("object", dict, "{"), ("array", list, "[")):
            if name in types and bare.startswith(bracket):
                return literal_json(bare, python) or json_string(text)
        return json_string(text)

    def _first(self, keyword: str) -> Schema:
        found = (node[keyword] for node in self._nodes(self._node, set()) if isinstance(node.get(keyword), Mapping))
        return Schema(next(found, None), self._root)

    def _nodes(self, node: object, seen: set[int]) -> Iterable[Mapping[str, Any]]:
        """This place and the alternatives within it, each once."""
        node = self._follow(node)
        if not isinstance(node, Mapping) or id(node) in seen or len(seen) == _MOST_NODES:
            return
        seen.add(id(node))
        yield node
        for keyword in ("allOf", "anyOf", "oneOf"):
            for part in _parts(node, keyword):
                yield from self._nodes(part, seen)

    def _follow(self, node: object) -> object:
        for _ in range(_MOST_REFERENCES):
            if not isinstance(node, Mapping) or not isinstance(node.get("$ref"), str):
                return node
            node = pointed(self._root, node["$ref"])
        return None

    def _types(self, node: object, known: dict[int, frozenset[str] | None]) -> frozenset[str] | None:
        """None means that this node does not restrict the type; `known` nodes are empty while in progress."""
        node = self._follow(node)
        if not isinstance(node, Mapping) or len(known) == _MOST_NODES:
            return None
        if id(node) in known:
            return known[id(node)]
        known[id(node)] = frozenset()
        limits = [_declared(node), *(self._types(part, known) for part in _parts(node, "allOf"))]
        choices = [parts for keyword in ("anyOf", "oneOf") if (parts := _parts(node, keyword))]
        limits += [_union([self._types(part, known) for part in parts]) for parts in choices]
        firm = [limit for limit in limits if limit]
        known[id(node)] = frozenset.intersection(*firm) or firm[0] if firm else None
        return known[id(node)]


def pointed(root: object, pointer: str) -> object:
    """What a reference within a schema points to, or None."""
    node = root
    if not pointer.startswith("#"):
        return None
    for step in pointer[1:].split("/")[1:]:
        if isinstance(node, list) and step.isdecimal() and int(step) < len(node):
            node = node[int(step)]
        elif isinstance(node, Mapping):
            node = node.get(step.replace("~1", "/").replace("~0", "~"))
        else:
            return None
    return node


def _parts(node: Mapping[str, Any], keyword: str) -> list[Any]:
    parts = node.get(keyword)
    return parts if isinstance(parts, list) else []


def _declared(node: Mapping[str, Any]) -> frozenset[str] | None:
    declared = node.get("type")
    names = declared if isinstance(declared, list) else [declared]
    types = frozenset(name for name in names if isinstance(name, str)) & _ALL
    if types:
        return types
    values = _parts(node, "enum") or ([node["const"]] if "const" in node else [])
    if values:
        return frozenset(_type_of(value) for value in values)
    if "properties" in node:
        return frozenset({"object"})
    return frozenset({"array"}) if "items" in node else None


def _union(parts: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    union: frozenset[str] = frozenset()
    for part in parts:
        if part is None:
            return None
        union |= part
    return union


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    for python, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, python):
            return name
    return "object"


def literal_json(text: str, kind: type = object) -> str | None:
    """Return JSON as written, or a Python literal of the same as JSON (models write both); None if it is neither."""
    if is_json(text):
        return text
    value = python_literal(text)
    if value is None or not isinstance(value, kind):
        return "null" if text == "None" and kind is object else None
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return written if is_json(written) else None


class _JsonWords(ast.NodeTransformer):
    """JSON's words among Python's, as models mix them."""

    words: ClassVar[dict[str, bool | None]] = {"true": True, "false": False, "null": None}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(self.words[node.id]) if node.id in self.words else node


def python_literal(text: str) -> object:
    """Return the value of a Python literal, or None if `text` is not one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in the model's string is no concern of the log's
            return ast.literal_eval(_JsonWords().visit(ast.parse(text.strip(), mode="eval")))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None

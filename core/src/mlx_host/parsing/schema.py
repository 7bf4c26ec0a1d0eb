"""Types unquoted values by the tool's JSON Schema."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from mlx_host.parsing.arguments import is_json, json_string

_ALL = frozenset({"null", "boolean", "integer", "number", "object", "array", "string"})
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

# Schemas come from clients: references may be circular and alternatives deeply nested.
_MAX_REFERENCES = 32
_MAX_NODES = 100


class Schema:
    """A node of a JSON Schema; a missing or invalid node allows anything. References point into `root`."""

    def __init__(self, node: object, root: object) -> None:
        self._root = root
        self._node = self._follow(node)

    def member(self, key: str) -> Schema:
        """Return the schema of an object's member."""
        for node in self._nodes(self._node, set()):
            properties = node.get("properties")
            if isinstance(properties, Mapping) and key in properties:
                return Schema(properties[key], self._root)
        return self._first("additionalProperties")

    def members(self) -> frozenset[str]:
        """Return the keys of the declared members of an object."""
        declared = (node.get("properties") for node in self._nodes(self._node, set()))
        return frozenset(key for properties in declared if isinstance(properties, Mapping) for key in properties)

    def required(self) -> frozenset[str]:
        """Return the keys of the members that an object must have."""
        listed = (_parts(node, "required") for node in self._nodes(self._node, set()) if "anyOf" not in node)
        return frozenset(key for keys in listed for key in keys if isinstance(key, str))

    def item(self) -> Schema:
        """Return the schema of an array's items."""
        return self._first("items")

    def types(self) -> frozenset[str]:
        """Return the JSON Schema names of the allowed types; empty if the types are not restricted."""
        return self._types(self._node, {}) or frozenset()

    def may_be_string(self) -> bool:
        """Return whether strings are allowed."""
        types = self.types()
        return not types or "string" in types

    def json(self, text: str) -> str:
        """Return unquoted `text` as the JSON text of an allowed type.

        It is a string if only strings are allowed or no other type matches. Without a schema it is JSON if it parses.
        """
        types = self.types()
        if types == {"string"}:
            return json_string(text)
        stripped = text.strip()
        if not types:
            return stripped if is_json(stripped) else json_string(text)
        if "null" in types and (stripped == "null" or (stripped == "None" and "string" not in types)):
            return "null"
        if "boolean" in types and stripped in ("true", "false", "True", "False"):
            return stripped.lower()
        if types & {"integer", "number"} and _NUMBER.fullmatch(stripped) and is_json(stripped):
            # If strings and integers are allowed, a fraction is a string.
            keep = "number" in types or "string" not in types or _INTEGER.fullmatch(stripped)
            return stripped if keep else json_string(text)
        for name, python, bracket in (("object", dict, "{"), ("array", list, "[")):
            if name in types and stripped.startswith(bracket):
                return literal_json(stripped, python) or json_string(text)
        return json_string(text)

    def tagged_json(self, text: str, *, is_string: bool) -> str:
        """Return `text` as JSON that the model has marked as a string or as another type.

        The schema decides if it does not allow what the mark says and `text` is a value that it allows.
        """
        types = self.types()
        if is_string:
            written = self.json(text) if types and "string" not in types else ""
            return written if written and not written.startswith('"') else json_string(text)
        if is_json(text):
            stripped = text.strip()
            return json_string(text) if types == {"string"} and not stripped.startswith('"') else stripped
        return self.json(text)

    def _first(self, keyword: str) -> Schema:
        found = (node[keyword] for node in self._nodes(self._node, set()) if isinstance(node.get(keyword), Mapping))
        return Schema(next(found, None), self._root)

    def _nodes(self, node: object, seen: set[int]) -> Iterable[Mapping[str, Any]]:
        """Yield this node and the nodes that it combines, each once."""
        node = self._follow(node)
        if not isinstance(node, Mapping) or id(node) in seen or len(seen) == _MAX_NODES:
            return
        seen.add(id(node))
        yield node
        for keyword in ("allOf", "anyOf", "oneOf"):
            for part in _parts(node, keyword):
                yield from self._nodes(part, seen)

    def _follow(self, node: object) -> object:
        for _ in range(_MAX_REFERENCES):
            if not isinstance(node, Mapping) or not isinstance(node.get("$ref"), str):
                return node
            node = resolve_pointer(self._root, node["$ref"])
        return None

    def _types(self, node: object, known: dict[int, frozenset[str] | None]) -> frozenset[str] | None:
        """Return None if the node does not restrict the type. `known` caches results, empty while in progress."""
        node = self._follow(node)
        if not isinstance(node, Mapping) or len(known) == _MAX_NODES:
            return None
        if id(node) in known:
            return known[id(node)]
        known[id(node)] = frozenset()
        limits = [_declared(node), *(self._types(part, known) for part in _parts(node, "allOf"))]
        choices = [parts for keyword in ("anyOf", "oneOf") if (parts := _parts(node, keyword))]
        limits += [_union([self._types(part, known) for part in parts]) for parts in choices]
        restricting = [limit for limit in limits if limit]
        known[id(node)] = frozenset.intersection(*restricting) or restricting[0] if restricting else None
        return known[id(node)]


def resolve_pointer(root: object, pointer: str) -> object:
    """Return the node that a JSON pointer within a schema refers to, or None."""
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
    """Return JSON unchanged, or a Python literal of type `kind` as JSON (models write both); None if it is neither."""
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
    """Accepts true, false and null in Python literals, because models mix the two notations."""

    words: ClassVar[dict[str, bool | None]] = {"true": True, "false": False, "null": None}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(self.words[node.id]) if node.id in self.words else node


def python_literal(text: str) -> object:
    """Return the value of a Python literal, or None if `text` is not one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Invalid escapes in generated text are not worth a log line.
            return ast.literal_eval(_JsonWords().visit(ast.parse(text.strip(), mode="eval")))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None

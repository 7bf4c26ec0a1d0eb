"""JSON Schema nodes of a tool's parameters, as the grammars of calls need them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mlx_host.errors import UnsupportedRequestError
from mlx_host.grammar import JsonValue
from mlx_host.parsing.arguments import is_name
from mlx_host.parsing.schema import Schema, resolve_pointer
from mlx_host.parsing.schema_normalization import DATA_KEYWORDS, SCHEMAS_BY_NAME, normalize_schema
from mlx_host.requests import Json

# Keywords that restrict values. All others are annotations.
_OBJECT_KEYWORDS = ("patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies")
_COMBINING_KEYWORDS = ("anyOf", "oneOf", "allOf", "not", "if", "enum", "const", "unevaluatedProperties")
_RESTRICTIONS = {*_OBJECT_KEYWORDS, *_COMBINING_KEYWORDS}
_RESTRICTIONS |= {"$ref", "type", "properties", "additionalProperties", "required"}
_RESTRICTIONS |= {"minProperties", "maxProperties", "items", "prefixItems", "contains", "minItems", "maxItems"}
_RESTRICTIONS |= {"uniqueItems", "minLength", "maxLength", "pattern", "minimum", "maximum", "multipleOf"}
_RESTRICTIONS |= {"exclusiveMinimum", "exclusiveMaximum"}
_KEYWORD_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys((*SCHEMAS_BY_NAME, "not", "if"), Mapping),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "enum", "required", "prefixItems"), list),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), int),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), (int, float)),
    **dict.fromkeys(("pattern", "$ref"), str),
    "type": (str, list),
}


@dataclass(frozen=True)
class SchemaNode:
    """One node in the schema of a tool's parameters.

    `raw` is the node as the client sent it, `root` the schema that its references point into, `tool` the tool's name
    for error messages, and `refs` the references that were followed to reach the node.
    """

    raw: Mapping[str, Any]
    root: Mapping[str, Any]
    tool: str
    refs: tuple[str, ...] = ()

    def subschema(self, raw: object) -> SchemaNode:
        """Return another node of the same schema. UnsupportedRequestError if `raw` is not a schema."""
        if isinstance(raw, bool):
            raw = {} if raw else {"not": {}}
        if not isinstance(raw, Mapping):
            raise UnsupportedRequestError(
                f"Invalid schema of the tool {self.tool!r}: {raw!r} is not a schema (expected an object or a boolean).",
                param="tools",
            )
        return SchemaNode(raw, self.root, self.tool, self.refs)

    def resolved(self) -> SchemaNode:
        """Follow `$ref`; a reference is rejected if it has sibling keywords, does not resolve or is circular."""
        node = self
        while "$ref" in node.raw:
            reference = node.raw["$ref"]
            target = resolve_pointer(self.root, reference) if isinstance(reference, str) else None
            if target is None or reference in node.refs or node.keywords() != {"$ref"}:
                node.reject("$ref")
            node = SchemaNode(node.subschema(target).raw, self.root, self.tool, (*node.refs, reference))
        return node

    def keywords(self) -> frozenset[str]:
        """Return the node's keywords that restrict values."""
        return frozenset(_RESTRICTIONS & self.raw.keys())

    def types(self) -> frozenset[str]:
        """Return the JSON Schema names of the allowed types; empty if the node does not restrict them."""
        return self.schema().types()

    def schema(self) -> Schema:
        return Schema(self.raw, self.root)

    def json(self) -> JsonValue:
        """Return the grammar of the allowed values as JSON, with the definitions that the schema may refer to."""
        definitions = {key: self.root[key] for key in ("$defs", "definitions") if key in self.root}
        known = tuple(f"#/{key}/" for key in definitions)
        if not all(reference.startswith(known) for reference in _references(self.raw)):
            self.reject("$ref")
        return JsonValue({**self.raw, **definitions}, param="tools")

    def reject(self, keyword: str) -> NoReturn:
        """Raise UnsupportedRequestError for a keyword that this call format cannot guarantee."""
        raise UnsupportedRequestError(
            f"The tool {self.tool!r} cannot be forced or strict with this model: unsupported JSON Schema keyword "
            f"{keyword!r} in its tool-call format, at {json.dumps(self.raw)[:200]}.",
            param="tools",
        )


@dataclass(frozen=True)
class Property:
    """A property that an object schema declares."""

    key: str
    node: SchemaNode
    required: bool


@dataclass(frozen=True)
class ToolFunction:
    """A tool's function. The schema of its `parameters` allows only objects."""

    name: str
    parameters: SchemaNode

    def json(self) -> JsonValue:
        """Return the grammar of the arguments as JSON."""
        schema = dict(self.parameters.raw)
        open_keywords = {*_OBJECT_KEYWORDS, *_COMBINING_KEYWORDS, "$ref", "additionalProperties"}
        if "properties" in schema and not schema.keys() & open_keywords:
            declared, _ = object_properties(self.parameters)
            schema["properties"] = {property_.key: dict(property_.node.raw) for property_ in declared}
            schema["additionalProperties"] = False
        return JsonValue(schema, param="tools")


def tool_functions(tools: Iterable[Json]) -> list[ToolFunction]:
    """Return the functions of `tools`, in OpenAI's format. A function without parameters takes no arguments."""
    return [_tool_function(tool["function"]) for tool in tools]


def _tool_function(declared: Mapping[str, Any]) -> ToolFunction:
    name, schema = declared["name"], declared.get("parameters")
    if not is_name(name):
        raise UnsupportedRequestError(
            f"Invalid tool name {name!r}: expected text without surrounding whitespace.", param="tools"
        )
    if schema is None:
        schema = {"properties": {}}
    root = _validated(normalize_schema(SchemaNode({}, {}, name).subschema(schema).raw), name)
    if "object" not in (Schema(root, root).types() or {"object"}):
        SchemaNode(root, root, name).reject("type")
    root = root if "$ref" in root else {**root, "type": "object"}
    return ToolFunction(name, SchemaNode(root, root, name))


def object_properties(node: SchemaNode) -> tuple[list[Property], SchemaNode | None]:
    """Return an object's properties, in the schema's order, and the schema of undeclared ones (None: not allowed).

    If properties are declared and `additionalProperties` is absent, no others are allowed, so that a call cannot invent
    parameters.
    """
    node = node.resolved()
    raw = node.raw
    for keyword in (*_OBJECT_KEYWORDS, *_COMBINING_KEYWORDS):
        if keyword in raw:
            node.reject(keyword)
    properties, required = raw.get("properties", {}), raw.get("required", [])
    others = raw.get("additionalProperties", "properties" not in raw)
    if not all(isinstance(key, str) for key in required):
        node.reject("required")
    keys = dict.fromkeys([*properties, *required])
    if raw.get("minProperties", 0) > len(required):
        node.reject("minProperties")
    if "maxProperties" in raw and (raw["maxProperties"] < len(keys) or others is not False):
        node.reject("maxProperties")
    unknown = {} if "additionalProperties" not in raw else others
    declared = [Property(key, node.subschema(properties.get(key, unknown)), key in required) for key in keys]
    return declared, None if others is False else node.subschema(others)


def alternatives(node: SchemaNode) -> list[SchemaNode]:
    """Return the alternatives that a node allows: each of one type, or without a restriction of the type."""
    node = node.resolved()
    raw, keywords = node.raw, node.keywords()
    if "enum" in raw or "const" in raw:
        return _by_type(node)
    for keyword in ("anyOf", "oneOf"):
        if keyword in raw:
            if keywords != {keyword}:
                node.reject(keyword)
            parts = [part for choice in raw[keyword] for part in alternatives(node.subschema(choice))]
            if not parts:
                node.reject(keyword)
            if keyword == "oneOf" and not _disjoint(parts):
                node.reject(keyword)
            return parts
    if "allOf" in raw:
        if keywords != {"allOf"} or len(raw["allOf"]) != 1:
            node.reject("allOf")
        return alternatives(node.subschema(raw["allOf"][0]))
    if isinstance(raw.get("type"), list):
        return [node.subschema({**raw, "type": name}) for name in raw["type"]]
    return [node]


def enum_values(node: SchemaNode) -> list[object] | None:
    """Return the values of `enum` or `const`; None if the node has neither."""
    raw = node.raw
    if "const" in raw:
        return [raw["const"]]
    return list(raw["enum"]) if "enum" in raw else None


def _by_type(node: SchemaNode) -> list[SchemaNode]:
    by_type: dict[frozenset[str], list[object]] = {}
    if node.keywords() - {"enum", "const", "type"} or {"enum", "const"} <= node.keywords():
        node.reject("enum" if "enum" in node.raw else "const")
    allowed = Schema({"type": node.raw["type"]}, {}).types() if "type" in node.raw else frozenset[str]()
    for value in enum_values(node) or ():
        types = Schema({"const": value}, {}).types()
        if not allowed or types <= allowed or (types == {"integer"} and "number" in allowed):
            by_type.setdefault(types, []).append(value)
    if not by_type:
        node.reject("enum" if "enum" in node.raw else "const")
    return [node.subschema({"enum": found}) for found in by_type.values()]


def _disjoint(parts: Sequence[SchemaNode]) -> bool:
    """Return whether no value matches two of the parts, judged by their types and enums alone."""
    listed = [json.dumps(value) for part in parts for value in enum_values(part) or ()]
    typed = [part.types() for part in parts if enum_values(part) is None]
    names = [name for types in typed for name in types]
    distinct = all(typed) and len(names) == len(set(names)) and not {"integer", "number"} <= set(names)
    separate = all(not types & part.types() for types in typed for part in parts if enum_values(part) is not None)
    return distinct and separate and len(listed) == len(set(listed))


def _references(raw: object) -> Iterable[str]:
    if isinstance(raw, Mapping):
        for key, inner in raw.items():
            if key == "$ref" and isinstance(inner, str):
                yield inner
            elif key not in DATA_KEYWORDS:
                yield from _references(inner)
    elif isinstance(raw, list):
        for inner in raw:
            yield from _references(inner)


def _validated(schema: Mapping[str, Any], tool: str) -> dict[str, Any]:
    """Return a copy of the schema; reject it if a keyword has a value of the wrong type."""
    kept: dict[str, Any] = {}
    for key, inner in schema.items():
        expected = _KEYWORD_TYPES.get(key, object)
        if key in _KEYWORD_TYPES and (not isinstance(inner, expected) or (isinstance(inner, bool) and key != "const")):
            SchemaNode({key: inner}, {}, tool).reject(key)
        if key in SCHEMAS_BY_NAME:
            kept[key] = {name: _validated_part(node, tool) for name, node in inner.items()}
        elif key in DATA_KEYWORDS:
            kept[key] = inner
        elif isinstance(inner, list):
            kept[key] = [_validated_part(node, tool) for node in inner]
        else:
            kept[key] = _validated_part(inner, tool)
    return kept


def _validated_part(raw: object, tool: str) -> object:
    return _validated(raw, tool) if isinstance(raw, Mapping) else raw

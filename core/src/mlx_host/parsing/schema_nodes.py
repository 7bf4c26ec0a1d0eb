"""The parameters of tools, one place of a JSON schema at a time, as the grammar of a call needs them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mlx_host.errors import UnsupportedRequestError
from mlx_host.grammar import JsonValue
from mlx_host.parsing.arguments import is_name
from mlx_host.parsing.schema import Schema, pointed
from mlx_host.requests import Json

# What restricts values; all else in a schema is said to readers.
_OF_OBJECTS = ("patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies")
_COMBINED = ("anyOf", "oneOf", "allOf", "not", "if", "enum", "const", "unevaluatedProperties")
_RESTRICTIONS = {*_OF_OBJECTS, *_COMBINED, "$ref", "type", "properties", "additionalProperties", "required"}
_RESTRICTIONS |= {"minProperties", "maxProperties", "items", "prefixItems", "contains", "minItems", "maxItems"}
_RESTRICTIONS |= {"uniqueItems", "minLength", "maxLength", "pattern", "minimum", "maximum", "multipleOf"}
_RESTRICTIONS |= {"exclusiveMinimum", "exclusiveMaximum"}
# The formats that llguidance knows. JSON schema takes a format for a remark, and an unknown one for nothing.
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
_SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_SHAPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys((*_SCHEMAS_BY_NAME, "not", "if"), Mapping),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "enum", "required", "prefixItems"), list),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), int),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), (int, float)),
    **dict.fromkeys(("pattern", "$ref"), str),
    "type": (str, list),
}
_VALUES = ("enum", "const", "default", "examples", "required")


@dataclass(frozen=True)
class Place:
    """A place in the schema of a tool's parameters; `root` is where its references point, `refs` what led here."""

    node: Mapping[str, Any]
    root: Mapping[str, Any]
    tool: str
    refs: tuple[str, ...] = ()

    def at(self, node: object) -> Place:
        """Another place in the same schema."""
        if isinstance(node, bool):
            node = {} if node else {"not": {}}
        if not isinstance(node, Mapping):
            raise UnsupportedRequestError(
                f"the schema of the tool {self.tool!r} holds {node!r} for a schema", param="tools"
            )
        return Place(node, self.root, self.tool, self.refs)

    def resolved(self) -> Place:
        """Follow a reference; one that says more beside it, points nowhere or goes in circles is refused."""
        place = self
        while "$ref" in place.node:
            reference = place.node["$ref"]
            node = pointed(self.root, reference) if isinstance(reference, str) else None
            if node is None or reference in place.refs or place.says() != {"$ref"}:
                place.refuse("$ref")
            place = Place(place.at(node).node, self.root, self.tool, (*place.refs, reference))
        return place

    def says(self) -> frozenset[str]:
        """The keywords here that restrict values."""
        return frozenset(_RESTRICTIONS & self.node.keys())

    def types(self) -> frozenset[str]:
        return self.schema().types()

    def schema(self) -> Schema:
        return Schema(self.node, self.root)

    def json(self) -> JsonValue:
        """The values allowed here as JSON, with the definitions that the schema may refer to."""
        definitions = {key: self.root[key] for key in ("$defs", "definitions") if key in self.root}
        known = tuple(f"#/{key}/" for key in definitions)
        if not all(reference.startswith(known) for reference in _references(self.node)):
            self.refuse("$ref")
        return JsonValue({**self.node, **definitions}, param="tools")

    def refuse(self, keyword: str) -> NoReturn:
        raise UnsupportedRequestError(
            f"the tool {self.tool!r} cannot be forced or strict with this model: in the format of its calls the "
            f"schema's {keyword!r} at {json.dumps(self.node)[:200]} cannot be guaranteed",
            param="tools",
        )


@dataclass(frozen=True)
class Member:
    """A member that an object declares."""

    key: str
    place: Place
    required: bool


@dataclass(frozen=True)
class Function:
    """A tool's function; `parameters` allow objects alone."""

    name: str
    parameters: Place

    def json(self) -> JsonValue:
        """The arguments as JSON."""
        schema = dict(self.parameters.node)
        if "properties" in schema and not schema.keys() & {*_OF_OBJECTS, *_COMBINED, "$ref", "additionalProperties"}:
            declared, _ = members(self.parameters)
            schema["properties"] = {member.key: dict(member.place.node) for member in declared}
            schema["additionalProperties"] = False
        return JsonValue(schema, param="tools")


def functions(tools: Iterable[Json]) -> list[Function]:
    """The functions of OpenAI's `tools`. Without parameters a function takes none."""
    return [_function(tool["function"]) for tool in tools]


def _function(declared: Mapping[str, Any]) -> Function:
    name, schema = declared["name"], declared.get("parameters")
    if not is_name(name):
        raise UnsupportedRequestError(f"the tool name {name!r} cannot be written in a call", param="tools")
    if schema is None:
        schema = {"properties": {}}
    place = Place({}, {}, name).at(schema)
    root = _checked(place.node, name)
    if "object" not in (Schema(root, root).types() or {"object"}):
        Place(root, root, name).refuse("type")
    root = root if "$ref" in root else {**root, "type": "object"}
    return Function(name, Place(root, root, name))


def members(place: Place) -> tuple[list[Member], Place | None]:
    """What an object holds: its members in the schema's order, and the place of all others, None if there are none.

    Where members are declared and nothing is said of others, there are none: a call makes no parameters up.
    """
    place = place.resolved()
    node = place.node
    for keyword in (*_OF_OBJECTS, *_COMBINED):
        if keyword in node:
            place.refuse(keyword)
    properties, required = node.get("properties", {}), node.get("required", [])
    others = node.get("additionalProperties", "properties" not in node)
    if not all(isinstance(key, str) for key in required):
        place.refuse("required")
    keys = dict.fromkeys([*properties, *required])
    if node.get("minProperties", 0) > len(required):
        place.refuse("minProperties")
    if "maxProperties" in node and (node["maxProperties"] < len(keys) or others is not False):
        place.refuse("maxProperties")
    unknown = {} if "additionalProperties" not in node else others
    declared = [Member(key, place.at(properties.get(key, unknown)), key in required) for key in keys]
    return declared, None if others is False else place.at(others)


def branches(place: Place) -> list[Place]:
    """The alternatives of a place: of one type each, or not restricted as to type."""
    place = place.resolved()
    node, says = place.node, place.says()
    if "enum" in node or "const" in node:
        return _by_type(place)
    for keyword in ("anyOf", "oneOf"):
        if keyword in node:
            if says != {keyword}:
                place.refuse(keyword)
            parts = [part for choice in node[keyword] for part in branches(place.at(choice))]
            if not parts:
                place.refuse(keyword)
            if keyword == "oneOf" and not _disjoint(parts):
                place.refuse(keyword)
            return parts
    if "allOf" in node:
        if says != {"allOf"} or len(node["allOf"]) != 1:
            place.refuse("allOf")
        return branches(place.at(node["allOf"][0]))
    if isinstance(node.get("type"), list):
        return [place.at({**node, "type": name}) for name in node["type"]]
    return [place]


def values(place: Place) -> list[object] | None:
    """The only values allowed, if the place lists them."""
    node = place.node
    if "const" in node:
        return [node["const"]]
    return list(node["enum"]) if "enum" in node else None


def _by_type(place: Place) -> list[Place]:
    listed: dict[frozenset[str], list[object]] = {}
    if place.says() - {"enum", "const", "type"} or {"enum", "const"} <= place.says():
        place.refuse("enum" if "enum" in place.node else "const")
    allowed = Schema({"type": place.node["type"]}, {}).types() if "type" in place.node else frozenset[str]()
    for value in values(place) or ():
        types = Schema({"const": value}, {}).types()
        if not allowed or types <= allowed or (types == {"integer"} and "number" in allowed):
            listed.setdefault(types, []).append(value)
    if not listed:
        place.refuse("enum" if "enum" in place.node else "const")
    return [place.at({"enum": found}) for found in listed.values()]


def _disjoint(parts: Sequence[Place]) -> bool:
    """Whether no value fits two of the parts, as far as their types and lists of values show it."""
    listed = [json.dumps(value) for part in parts for value in values(part) or ()]
    typed = [part.types() for part in parts if values(part) is None]
    names = [name for types in typed for name in types]
    firm = all(typed) and len(names) == len(set(names)) and not {"integer", "number"} <= set(names)
    apart = all(not types & part.types() for types in typed for part in parts if values(part) is not None)
    return firm and apart and len(listed) == len(set(listed))


def _references(node: object) -> Iterable[str]:
    if isinstance(node, Mapping):
        for key, inner in node.items():
            if key == "$ref" and isinstance(inner, str):
                yield inner
            elif key not in _VALUES:
                yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


def _checked(schema: Mapping[str, Any], tool: str) -> dict[str, Any]:
    """The schema, if its keywords have the shapes they must have, without formats that say nothing."""
    kept: dict[str, Any] = {}
    for key, inner in schema.items():
        if key in _SHAPES and (not isinstance(inner, _SHAPES[key]) or (isinstance(inner, bool) and key != "const")):
            Place({key: inner}, {}, tool).refuse(key)
        if key == "format" and inner not in _FORMATS:
            continue
        if key in _SCHEMAS_BY_NAME:
            kept[key] = {name: _checked_part(node, tool) for name, node in inner.items()}
        elif key in _VALUES:
            kept[key] = inner
        elif isinstance(inner, list):
            kept[key] = [_checked_part(node, tool) for node in inner]
        else:
            kept[key] = _checked_part(inner, tool)
    return kept


def _checked_part(node: object, tool: str) -> object:
    return _checked(node, tool) if isinstance(node, Mapping) else node

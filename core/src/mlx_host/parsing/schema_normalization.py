"""Rewrites clients' JSON schemas with the keywords that grammars support, without allowing additional values.

Many schema generators (pydantic, zod, MCP servers in Go and Rust) write keywords that have no effect, or that have
an equivalent with simpler keywords.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlx_host.parsing.schema import resolve_pointer

# The formats that llguidance supports. JSON Schema treats a format as an annotation, and ignores unknown ones.
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
# Keywords whose value maps names to schemas.
SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
# Keywords whose value is data, not a schema.
DATA_KEYWORDS = ("enum", "const", "default", "example", "examples", "required")

# Fewer allowed values of these would allow more of the whole schema.
_NEGATING_KEYWORDS = ("not", "if")
_NULLABLE = ("const", "default", "example", "examples")
_TYPING_KEYWORDS = {"type", "$ref", "enum", "const", "anyOf", "oneOf", "allOf"}
# Keywords of propertyNames that restrict strings.
_NAME_KEYWORDS = {"$ref", "type", "enum", "const", "pattern", "minLength", "maxLength", "format", "not", "if"}
_NAME_KEYWORDS |= {"anyOf", "oneOf", "allOf"}
# As deep as a request body may be nested.
_MAX_DEPTH = 100


def normalize_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that allows the same values, or fewer.

    A keyword with the value null is dropped, as is an unknown `format`. A node without a type is an object if it has
    `properties`, and an array if it has `items`. `propertyNames` becomes `properties` or `patternProperties`; it is
    kept where that is not possible. Malformed keywords are kept.
    """
    return _normalized(schema, schema, 0)


def _normalized(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if (value is None and key not in _NULLABLE) or (key == "format" and value not in FORMATS):
            continue
        if key in SCHEMAS_BY_NAME and isinstance(value, Mapping):
            kept[key] = {name: _part(part, root, depth + 2) for name, part in value.items()}
        elif key in DATA_KEYWORDS or key in _NEGATING_KEYWORDS:
            kept[key] = value
        else:
            kept[key] = _part(value, root, depth + 1)
    if not kept.keys() & _TYPING_KEYWORDS:
        if isinstance(kept.get("properties"), Mapping):
            kept["type"] = "object"
        elif "items" in kept:
            kept["type"] = "array"
    return _without_property_names(kept, root) if "propertyNames" in kept else kept


def _part(value: Any, root: Mapping[str, Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, list):
        return [_part(each, root, depth + 1) for each in value]
    return _normalized(value, root, depth) if isinstance(value, Mapping) else value


def _without_property_names(schema: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with an equivalent of `propertyNames`, or unchanged if there is none."""
    names = schema["propertyNames"]
    if isinstance(names, Mapping) and names.keys() & _NAME_KEYWORDS == {"$ref"} and isinstance(names["$ref"], str):
        names = resolve_pointer(root, names["$ref"])
    rest = {key: value for key, value in schema.items() if key != "propertyNames"}
    if names is True:
        return rest
    declared, others = rest.get("properties", {}), rest.get("additionalProperties", True)
    if not isinstance(names, Mapping) or "string" not in _types(names) or not isinstance(declared, Mapping):
        return schema
    keywords = names.keys() & _NAME_KEYWORDS - {"type"}
    if not keywords:
        return rest
    if "patternProperties" in rest:
        return schema
    if keywords in ({"enum"}, {"const"}):
        listed = names["enum"] if "enum" in names else [names["const"]]
        if not isinstance(listed, list):
            return schema
        allowed = [*(name for name in declared if name in listed), *(name for name in listed if name not in declared)]
        properties = {name: declared.get(name, others) for name in allowed if isinstance(name, str)}
        properties = {name: part for name, part in properties.items() if part is not False}
        return {**rest, "properties": properties, "additionalProperties": False}
    pattern = _name_pattern(names, keywords)
    if pattern is None or (declared and others not in (True, False, {})):
        return schema
    properties = {name: part for name, part in declared.items() if re.search(pattern, name)}
    patterns = {} if others is False else {"patternProperties": {pattern: others}}
    if properties or "properties" in rest:
        rest["properties"] = properties
    return {**rest, **patterns, "additionalProperties": False}


def _types(names: Mapping[str, Any]) -> list[Any]:
    declared = names.get("type", "string")
    return declared if isinstance(declared, list) else [declared]


def _name_pattern(names: Mapping[str, Any], keywords: set[str]) -> str | None:
    """Return the pattern of the names that a schema of `propertyNames` allows; None if there is none."""
    if keywords in ({"pattern"}, {"pattern", "format"}) and isinstance(names["pattern"], str):
        try:
            re.compile(names["pattern"])
        except re.error:
            return None
        return str(names["pattern"])
    if keywords <= {"minLength", "maxLength"}:
        minimum, maximum = names.get("minLength", 0), names.get("maxLength", "")
        if type(minimum) is int and (type(maximum) is int or maximum == "") and minimum >= 0:
            return f"^.{{{minimum},{maximum}}}$"
    return None

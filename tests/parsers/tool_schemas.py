"""Tools whose parameters cover the JSON Schema keywords."""

from __future__ import annotations

from typing import Any

from mlx_host.requests import Json


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
BOOLEAN, NULL = {"type": "boolean"}, {"type": "null"}
POINT = _object("x", x=INTEGER, label=STRING)
TREE = {"type": "object", "properties": {"name": STRING, "kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}}

SCHEMAS: dict[str, dict[str, Any] | None] = {
    "plain": _object("city", city=STRING, days=INTEGER),
    "all optional": _object(a=STRING, b=INTEGER, c=STRING),
    "required last": _object("c", a=STRING, b=BOOLEAN, c=NUMBER),
    "none": _object(),
    "missing": None,
    "open": {"type": "object"},
    "closed and empty": {"type": "object", "properties": {}, "additionalProperties": False, "title": "Nothing"},
    "types": _object(
        *("s", "i", "n", "b", "z", "o", "l", "e"),
        **{"s": STRING, "i": INTEGER, "n": NUMBER, "b": BOOLEAN, "z": NULL, "o": POINT},
        **{"l": {"type": "array", "items": INTEGER}, "e": {"type": "array", "items": STRING}},
    ),
    "unions": _object(
        *("a", "b", "c", "d"),
        a={"anyOf": [STRING, NULL]},
        b={"type": ["string", "integer"]},
        c={"type": ["integer", "null"], "description": "some"},
        d={"anyOf": [STRING, BOOLEAN, NUMBER, NULL], "default": None},
    ),
    "unions with brackets": _object(
        "a", "b", "c", a={"anyOf": [STRING, POINT]}, b={"type": ["array", "string"]}, c={"anyOf": [POINT, NULL]}
    ),
    "lists of values": _object(
        *("a", "b", "c", "d", "e"),
        a={"type": "string", "enum": ["red", "red wine", "blue\n", '"']},
        b={"const": "7"},
        c={"enum": ["auto", 1, 1.5, None, True]},
        d={"anyOf": [{"type": "string", "enum": ["on", "off"]}, NULL]},
        e={"oneOf": [{"const": "x"}, {"const": 3}]},
    ),
    "lengths": _object(
        *("a", "b", "c", "d"),
        a={"type": "string", "minLength": 3},
        b={"type": "string", "maxLength": 4},
        c={"type": "string", "minLength": 2, "maxLength": 2},
        d={"type": "string", "minLength": 1, "maxLength": 4000},
    ),
    "patterns": _object(
        *("a", "b", "c", "d", "e"),
        a={"type": "string", "pattern": r"^\d{2}-[\w.]+?$"},
        b={"type": "string", "pattern": "x|^y"},
        c={"type": "string", "format": "date"},
        d={"type": "string", "format": "file-path"},
        e={"type": ["string", "null"], "pattern": "^[a-z]{1,4}$"},
    ),
    "limits": _object(
        *("a", "b", "c", "d"),
        a={"type": "integer", "minimum": 3, "maximum": 12},
        b={"type": "number", "exclusiveMinimum": 0, "maximum": 2.5},
        c={"type": "integer", "multipleOf": 5},
        d={"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 1, "maxItems": 3},
    ),
    "nested": {
        **_object(
            *("who", "all", "where"),
            who={"$ref": "#/$defs/Person"},
            all={"type": "array", "items": {"$ref": "#/$defs/Person"}, "maxItems": 2},
            where={"allOf": [{"$ref": "#/$defs/SchemaNode"}], "description": "there"},
        ),
        "$defs": {
            "Person": _object(
                "name", name=STRING, age={"anyOf": [INTEGER, NULL]}, tags={"type": "array", "items": STRING}
            ),
            "SchemaNode": {"type": "string", "enum": ["here", "there"]},
        },
    },
    "recursive": {**_object("tree", tree={"$ref": "#/$defs/Tree"}), "$defs": {"Tree": TREE}},
    "others of one type": {**_object("a", a=STRING), "additionalProperties": INTEGER},
    "others of any type": {**_object("a", a=INTEGER), "additionalProperties": True},
    "maps": _object("m", m={"type": "object", "additionalProperties": INTEGER}),
    "anything": _object("a", "b", a={}, b={"description": "whatever"}),
    "required but not declared": {"type": "object", "properties": {"a": INTEGER}, "required": ["a", "b"]},
    "odd keys": _object("a-b", "größe", **{"a-b": INTEGER, "größe": STRING, "x.y": STRING}),
    "a reference": {"$ref": "#/$defs/Point", "$defs": {"Point": POINT}},
    "alternatives": {"type": "object", "anyOf": [POINT, _object("y", y=STRING)]},
    "patterned keys": {"type": "object", "patternProperties": {"^x": INTEGER}, "additionalProperties": False},
}


def tool(name: str, parameters: dict[str, Any] | None, *, strict: bool = False) -> Json:
    function = {"name": name, **({} if parameters is None else {"parameters": parameters})}
    return {"type": "function", "function": {**function, **({"strict": True} if strict else {})}}


def tools_of(schema: str) -> tuple[Json, ...]:
    """Return a tool with the schema, and one whose name is a prefix of its name."""
    return tool("try-it", SCHEMAS[schema]), tool("try", SCHEMAS["plain"])

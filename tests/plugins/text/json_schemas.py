"""Sixty JSON schemas of all kinds, for output that must validate."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def closed(**properties: Any) -> Schema:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def array(items: Any, minimum: int = 0, maximum: int = 3) -> Schema:
    return {"type": "array", "items": items, "minItems": minimum, "maxItems": maximum}


WORD: Schema = {"type": "string", "maxLength": 12}
SMALL: Schema = {"type": "integer", "minimum": 0, "maximum": 99}

TREE: Schema = {
    "$defs": {"node": closed(value=SMALL, children=array({"$ref": "#/$defs/node"}, 0, 2))},
    "$ref": "#/$defs/node",
}
LINKED: Schema = {
    "type": "object",
    "properties": {"value": SMALL, "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
    "required": ["value", "next"],
    "additionalProperties": False,
}
EXPRESSION: Schema = {
    "$defs": {
        "expression": {"anyOf": [{"$ref": "#/$defs/number"}, {"$ref": "#/$defs/sum"}]},
        "number": closed(number=SMALL),
        "sum": closed(plus=array({"$ref": "#/$defs/number"}, 2, 2)),
    },
    "$ref": "#/$defs/expression",
}
DRAFT7: Schema = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "definitions": {"word": WORD},
    "type": "array",
    "items": [{"$ref": "#/definitions/word"}, {"type": "boolean"}],
    "additionalItems": False,
    "minItems": 2,
}
DRAFT4: Schema = {
    "$schema": "http://json-schema.org/draft-04/schema#",
    "type": "number",
    "minimum": 0,
    "exclusiveMinimum": True,
    "maximum": 3,
}

SCHEMAS: dict[str, Schema] = {
    # scalars
    "string": WORD,
    "string of a length": {"type": "string", "minLength": 3, "maxLength": 5},
    "integer": {"type": "integer", "minimum": -1000, "maximum": 1000},
    "number": {"type": "number", "minimum": -2.5, "maximum": 2.5},
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "several types": {"type": ["boolean", "null", "integer"], "minimum": 0, "maximum": 50},
    # numeric bounds
    "exclusive bounds": {"type": "integer", "exclusiveMinimum": 7, "exclusiveMaximum": 12},
    "open interval": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "only positive": {"type": "number", "exclusiveMinimum": 0},
    "multiples": {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 500},
    "halves": {"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 20},
    "fractions as bounds of integers": {"type": "integer", "minimum": -1.5, "maximum": 3.5},
    "draft 4 bounds": DRAFT4,
    # constants
    "enum": {"enum": ["red", "green", "blue"]},
    "enum of anything": {"enum": [1, 2.5, "three", None, True, [4], {"five": 5}]},
    "const": {"const": "yes"},
    "const object": {"const": {"b": [1, None], "a": {"c": "d"}}},
    "const with special characters": {"const": 'é\n"\\/\u2028😀'},
    "enum with a length limit": {"enum": ["a", "bbb", "cc"], "minLength": 2},
    # patterns
    "pattern": text("^[a-z]{2,8}$"),
    "unanchored pattern": {"type": "string", "pattern": "ab", "maxLength": 12},
    "digits": text(r"^\d{3}-\d{4}$"),
    "words and whitespace": text(r"^\w{1,6}\s\w{1,6}$"),
    "neither digits nor words": text(r"^\D{2}\W{2}\S{2}$"),
    "dots": text("^.{2,6}$"),
    "alternatives": text("^(cat|dog|bird)s?$"),
    "class with special characters": text(r"^[\[(a.+*?|{}-]{1,4}$"),
    "pattern with a length limit": {"type": "string", "pattern": "^a+b*$", "minLength": 2, "maxLength": 6},
    # formats
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "date-time": {"type": "string", "format": "date-time"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "uuid": {"type": "string", "format": "uuid"},
    "format as annotation": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 9999},
    # arrays
    "array": array(SMALL, 1, 4),
    "possibly empty array": array({"type": "boolean"}, 0, 2),
    "exactly three": array(SMALL, 3, 3),
    "nested arrays": array(array(SMALL, 1, 2), 1, 2),
    "tuple": {"type": "array", "prefixItems": [SMALL, {"type": "boolean"}], "items": False, "minItems": 2},
    "tuple with more items": {"type": "array", "prefixItems": [WORD], "items": SMALL, "minItems": 2, "maxItems": 3},
    "draft 7 tuple": DRAFT7,
    # objects
    "object": closed(name=WORD, age=SMALL),
    "optional properties": {
        "type": "object",
        "properties": {"a": SMALL, "b": {"type": "boolean"}, "c": {"type": "null"}},
        "additionalProperties": False,
    },
    "nested objects": closed(a=closed(b=closed(c=SMALL, d={"type": "boolean"}))),
    "unicode keys": closed(**{"ключ": SMALL, "名前": {"type": "boolean"}, "a b": {"type": "null"}}),
    "special keys": closed(**{"": SMALL, 'quo"te': SMALL, "new\nline": SMALL, "back\\slash": SMALL}),
    "map": {"type": "object", "additionalProperties": SMALL, "maxProperties": 2},
    "properties with additional ones": {
        "type": "object",
        "properties": {"é\n": SMALL},
        "required": ["é\n"],
        "additionalProperties": {"type": "string", "maxLength": 4},
        "maxProperties": 3,
    },
    "keys by pattern": {
        "type": "object",
        "patternProperties": {"^x[a-z]{1,4}$": SMALL},
        "additionalProperties": False,
        "maxProperties": 2,
    },
    "required without schema": {
        "type": "object",
        "required": ["id"],
        "additionalProperties": SMALL,
        "maxProperties": 1,
    },
    "at least one": {
        "type": "object",
        "properties": {"a": SMALL, "b": SMALL},
        "additionalProperties": False,
        "minProperties": 1,
    },
    # combinations
    "anyOf": {"anyOf": [SMALL, {"type": "string", "maxLength": 4}, closed(x=SMALL)]},
    "overlapping anyOf": {"anyOf": [{"type": "integer", "maximum": 2, "minimum": -9}, {"const": "none"}]},
    "oneOf with a discriminator": {
        "oneOf": [
            closed(kind={"const": "circle"}, radius=SMALL),
            closed(kind={"const": "line"}, points=array(SMALL, 2)),
        ]
    },
    "allOf": {
        "allOf": [
            {"type": "object", "properties": {"a": SMALL}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ],
        "maxProperties": 2,
    },
    # references
    "tree": TREE,
    "linked list": LINKED,
    "expression": EXPRESSION,
    "pointer with escapes": {
        "$defs": {"a/b~c": SMALL},
        "type": "array",
        "items": {"$ref": "#/$defs/a~1b~0c"},
        "maxItems": 2,
    },
}

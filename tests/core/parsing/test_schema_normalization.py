"""Schemas as pydantic, zod and MCP servers write them, rewritten to the keywords that grammars support."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from mlx_host.parsing.schema_normalization import normalize_schema

NUMBER = {"type": "number"}
OBJECT = {"type": "object", "additionalProperties": NUMBER}
CLOSED = {"additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "normalized"),
    [
        ({"type": "string", "format": "path"}, {"type": "string"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": ["date"]}, {"type": "string"}),
        ({"properties": {"format": {"format": "regex"}}}, {"type": "object", "properties": {"format": {}}}),
        ({"properties": None, "required": None, "type": "object"}, {"type": "object"}),
        ({"const": None, "default": None, "maximum": None}, {"const": None, "default": None}),
        ({"enum": [{"format": "path", "required": None}]}, {"enum": [{"format": "path", "required": None}]}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"items": {"items": NUMBER}}, {"type": "array", "items": {"type": "array", "items": NUMBER}}),
        ({"properties": {}, "anyOf": [{}]}, {"properties": {}, "anyOf": [{}]}),
        ({"not": {"properties": {}, "format": "path"}}, {"not": {"properties": {}, "format": "path"}}),
        ({**OBJECT, "propertyNames": {"type": "string", "description": "a key"}}, OBJECT),
        ({**OBJECT, "propertyNames": True}, OBJECT),
        ({**OBJECT, "propertyNames": {"type": "string", "format": "path"}}, OBJECT),
        (
            {**OBJECT, "propertyNames": {"enum": ["a", "b"]}, "required": ["a"]},
            {"type": "object", "required": ["a"], "properties": {"a": NUMBER, "b": NUMBER}, **CLOSED},
        ),
        (
            {"type": "object", "propertyNames": {"const": "b"}, "properties": {"a": {}, "b": NUMBER}},
            {"type": "object", "properties": {"b": NUMBER}, **CLOSED},
        ),
        (
            {**OBJECT, "propertyNames": {"$ref": "#/$defs/c"}, "$defs": {"c": {"enum": ["x"]}}},
            {"type": "object", "$defs": {"c": {"enum": ["x"]}}, "properties": {"x": NUMBER}, **CLOSED},
        ),
        (
            {**OBJECT, "propertyNames": {"pattern": "^[a-z]+$"}},
            {"type": "object", "patternProperties": {"^[a-z]+$": NUMBER}, **CLOSED},
        ),
        (
            {**OBJECT, "propertyNames": {"minLength": 1, "maxLength": 9}},
            {"type": "object", "patternProperties": {"^.{1,9}$": NUMBER}, **CLOSED},
        ),
        (
            {"type": "object", "properties": {"a": {}, "1": {}}, "propertyNames": {"pattern": "^[a-z]$"}},
            {"type": "object", "properties": {"a": {}}, "patternProperties": {"^[a-z]$": True}, **CLOSED},
        ),
    ],
)
def test_schemas_are_rewritten(schema: dict[str, Any], normalized: dict[str, Any]) -> None:
    assert normalize_schema(schema) == normalized
    validator, rewritten = map(jsonschema.Draft202012Validator, (_without_nulls(schema), normalized))
    for value in ({}, {"a": 1}, {"b": 2}, {"x": 1}, {"a": "b"}, {"1": 1}, {"abcdefghij": 1}, [], [[1]], "a", None):
        assert validator.is_valid(value) or not rewritten.is_valid(value), value


def _without_nulls(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if value is not None or key == "const"}


@pytest.mark.parametrize(
    "schema",
    [
        {**OBJECT, "propertyNames": {"type": "integer"}},
        {**OBJECT, "propertyNames": {"anyOf": [{"pattern": "a"}, {"pattern": "b"}]}},
        {**OBJECT, "propertyNames": {"pattern": "(a"}},
        {**OBJECT, "propertyNames": {"enum": "a"}},
        {**OBJECT, "propertyNames": {"minLength": "1"}},
        {**OBJECT, "propertyNames": {"pattern": "a"}, "properties": {"a": {}}},
        {**OBJECT, "propertyNames": {"pattern": "a"}, "patternProperties": {"b": {}}},
        {**OBJECT, "propertyNames": False},
        {"propertyNames": {"$ref": "#/nowhere"}, **OBJECT},
    ],
)
def test_property_names_without_an_equivalent_are_kept(schema: dict[str, Any]) -> None:
    assert normalize_schema(schema) == schema


def test_a_schema_may_be_nested_deeply() -> None:
    schema: dict[str, Any] = {"format": "path"}
    for _ in range(500):
        schema = {"items": schema}
    assert normalize_schema(schema)["type"] == "array"

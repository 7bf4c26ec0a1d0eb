"""Narrowed schemas, and schemas that are rejected because validators disagree about them."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Alternatives, Concat, JsonValue, Repeat, chain, one_of
from mlx_host_text.portable_regex import AmbiguousRegexError, to_portable_regex
from mlx_host_text.schema_narrowing import narrow_grammar, narrow_schema


def validates(schema: Any, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"multipleOf": 0.01}, "'multipleOf' at #: 0.01 has no exact binary representation"),
        ({"type": "integer", "multipleOf": 999_983}, "'multipleOf' at #: 999983 is too large"),
        ({"type": "integer", "minimum": 2**53}, "'minimum' at #"),
        ({"exclusiveMinimum": True}, "'exclusiveMinimum' at #: must be a number"),
        ({"additionalProperties": {"type": "null"}, "minProperties": 2}, "'minProperties' at #"),
        ({"items": [{}, {}]}, "'items' at #: must be one schema; use prefixItems for a list"),
        ({"const": "bell \x07"}, "'const' at #: contains text with control characters"),
        ({"enum": [{"a": ["\ud800"]}]}, "'enum' at #"),
        ({"pattern": r"\Aab\Z"}, r"'pattern' at #: '\\Aab\\Z'"),
        ({"pattern": "[]a]"}, "'pattern' at #"),
        ({"pattern": "[a--b]"}, "'--' in a class"),
        ({"pattern": r"[^\W]"}, "negated class"),
        ({"pattern": "(?x) a"}, "the group"),
        ({"pattern": "[a"}, "a class is not closed"),
        ({"patternProperties": {r"^\d$": {}}}, "'patternProperties' at #"),
        ({"properties": {"a": {"items": {"multipleOf": 0.1}}}}, "at #/properties/a/items"),
        ({"anyOf": [{}, {"$defs": {"b": {"multipleOf": 0.1}}}]}, "at #/anyOf/1/$defs/b"),
        ({"$ref": "#/components/x", "components": {"x": {"multipleOf": 0.1}}}, "at #/components/x"),
    ],
)
def test_schemas_on_which_validators_differ_are_rejected_with_the_location(schema: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(message)) as error:
        narrow_schema(schema, "response_format")
    assert error.value.param == "response_format"


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "object", "properties": {"pattern": {"type": "string"}, "format": {"enum": ["(?x)"]}}},
        {"default": {"multipleOf": 0.1}, "examples": [{"pattern": "[]"}], "const": {"multipleOf": 0.1}},
        {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9, "multipleOf": 1000},
        {"type": "object", "required": ["a", "b"], "minProperties": 3},
        {"patternProperties": {"^.[0-9]x$": {}}},
        {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
    ],
)
def test_other_schemas_are_unchanged(schema: Any) -> None:
    assert narrow_schema(schema, None) == schema


@pytest.mark.parametrize(
    ("schema", "inside", "outside"),
    [
        ({"exclusiveMaximum": 1}, [0, 0.9, 0.999999999], [1, 0.99999999999999999]),
        ({"exclusiveMinimum": 0, "minimum": -5}, [1e-9, 3], [0, -1, 1e-300]),
        ({"exclusiveMinimum": 1e15, "maximum": 2e15}, [1.1e15, 2e15], [1e15, 2.1e15]),
        (
            {"type": "string", "format": "date"},
            ["2024-02-29", "2000-02-29"],
            ["0000-01-01", "2023-02-29", "1900-02-29"],
        ),
        ({"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, [0, 2**53 - 1], [-1, 2**53]),
        ({"type": ["integer", "null"], "exclusiveMinimum": -(2**63), "maximum": 5}, [1 - 2**53, 5], [-(2**53), 6]),
        ({"type": "number", "maximum": 2**64, "minimum": -1e300}, [-9e18, 9e18], [-1e19, 1e19]),
        ({"maximum": 10**400}, [9e18, "a"], [1e19]),
        ({"type": "string", "format": "time"}, ["23:59:59Z"], ["23:59:60Z"]),
        ({"type": "string", "format": "date-time"}, ["2024-02-29T00:00:00Z"], ["2024-01-01T23:59:60Z"]),
    ],
)
def test_bounds_and_dates_are_narrowed(schema: Any, inside: list[Any], outside: list[Any]) -> None:
    narrowed = narrow_schema(schema, None)
    assert [value for value in inside if not validates(narrowed, value)] == []
    assert [value for value in outside if validates(narrowed, value)] == []


def test_draft_4_bounds_are_narrowed() -> None:
    draft = {"$schema": "http://json-schema.org/draft-04/schema#"}
    narrowed = narrow_schema(
        {**draft, "maximum": 3, "exclusiveMaximum": True, "minimum": 0, "exclusiveMinimum": False}, None
    )
    assert isinstance(narrowed, dict)
    assert 2.9 < narrowed["maximum"] < 3
    assert narrowed["minimum"] == 0
    assert not {"exclusiveMaximum", "exclusiveMinimum"} & narrowed.keys()


def test_keywords_without_effect_are_dropped() -> None:
    schema = {"type": "array", "uniqueItems": False, "items": {"format": "int32", "maximum": None}}
    assert narrow_schema(schema, None) == {"type": "array", "items": {}}


def test_nested_schemas_are_narrowed_and_shared_parts_stay_shared() -> None:
    value = JsonValue({"format": "float"}, "p")
    narrowed = narrow_grammar(chain("x", one_of(value, Repeat(value, 0, 2))))
    assert isinstance(narrowed, Concat)
    choice = narrowed.parts[1]
    assert isinstance(choice, Alternatives)
    first, again = choice.parts
    assert first == JsonValue({}, "p")
    assert isinstance(again, Repeat)
    assert again.part is first


@pytest.mark.parametrize(
    ("pattern", "matches", "differs"),
    [
        ("^.$", ["a", "é", " "], ["\n", "\r", "\u2028"]),
        (r"^\d$", ["7"], ["\u06f0", "x"]),
        (r"^\D$", ["x", " "], ["7", "\u06f0"]),
        (r"^\w$", ["_", "k"], ["é", "-"]),
        (r"^\W$", ["-", " "], ["é", "¼", "塇", "_"]),
        (r"^\s$", [" ", "\t", "\n"], ["\u2002", "\ufeff", "\x85"]),
        (r"^\S$", ["x", "é"], [" ", "\ufeff", "\x1c"]),
        (r"^[^\d,]$", ["x"], ["7", "\u06f0", ","]),
        (r"^[\d.]$", ["7", "."], ["\u06f0", "x"]),
        ("^[[&a~]$", ["[", "&", "a", "~"], ["b"]),
        (r"^\<a\>$", ["<a>"], ["a"]),
        (r"^(?:a|(?<n>b))\.$", ["a.", "b."], ["ax"]),
    ],
)
def test_patterns_match_what_all_regex_engines_match(pattern: str, matches: list[str], differs: list[str]) -> None:
    # Python's re accepts the Rust syntax except for the names of Unicode categories and of groups.
    written = to_portable_regex(pattern)
    for name, members in {"Alphabetic": "é塇", "M": "\u0300", "N": "¼\u06f0", "Nd": "\u06f0", "Pc": "_"}.items():
        written = written.replace(f"\\p{{{name}}}", members)
    compiled = re.compile(written.replace("(?<n>", "(?P<n>"))
    assert [text for text in matches if not compiled.search(text)] == []
    assert [text for text in differs if compiled.search(text)] == []


def test_escapes_of_one_regex_engine_are_ambiguous() -> None:
    for escape in "AzZQEacGR19":
        with pytest.raises(AmbiguousRegexError):
            to_portable_regex(f"\\{escape}")

import json
from typing import Any

import pytest
from mlx_host.parsing import Tools, literal_json

PROPERTIES: dict[str, Any] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "array": {"type": "array"},
    "nullable": {"type": ["string", "null"]},
    "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    "words": {"enum": ["1", "2"]},
    "numbers": {"enum": [1, 2]},
    "all": {"allOf": [{"$ref": "#/$defs/Text"}, {"description": "d"}]},
    "ref": {"$ref": "#/$defs/Text"},
    "loop": {"$ref": "#/$defs/Loop"},
    "tree": {"$ref": "#/$defs/Tree"},
    "text or integer": {"type": ["string", "integer"]},
    "odd": {"type": 7, "anyOf": "no", "enum": {}},
}
DEFS = {
    "Text": {"type": "string"},
    "Loop": {"$ref": "#/$defs/Loop"},
    "Tree": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "array"}, {"$ref": "#/$defs/Tree"}]},
}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"properties": PROPERTIES, "$defs": DEFS}}}]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("string", " 7", " 7"),
        ("string", "null", "null"),
        ("string", '{"a": 1}', '{"a": 1}'),
        ("integer", "9007199254740993", 9007199254740993),
        ("integer", " 7 ", 7),
        ("integer", "007", "007"),
        ("integer", "null", "null"),
        ("integer", "9" * 5000, "9" * 5000),
        ("number", "0.5", 0.5),
        ("number", "NaN", "NaN"),
        ("boolean", "True", True),
        ("boolean", "false", False),
        ("boolean", "yes", "yes"),
        ("object", '{"a": "1"}', {"a": "1"}),
        ("object", "{'a': None}", {"a": None}),
        ("object", "{'a': null, 'b': [true]}", {"a": None, "b": [True]}),
        ("object", "{'a': b}", "{'a': b}"),
        ("object", "{oops}", "{oops}"),
        ("object", "{1, 2}", "{1, 2}"),
        ("array", "['a', True]", ["a", True]),
        ("array", "[" * 500, "[" * 500),
        ("nullable", "null", None),
        ("nullable", "None", "None"),
        ("nullable", "none", "none"),
        ("maybe", "None", None),
        ("maybe", "nil", "nil"),
        ("maybe", "3", 3),
        ("words", "1", "1"),
        ("text or integer", "3", 3),
        ("text or integer", "3.5", "3.5"),
        ("numbers", "1", 1),
        ("all", "1", "1"),
        ("ref", "1", "1"),
        ("loop", "1", 1),
        ("tree", "[1]", [1]),
        ("tree", "1", "1"),
        ("odd", "1", 1),
        ("unknown", "1", 1),
        ("unknown", "one", "one"),
        ("unknown", "True", "True"),
    ],
)
def test_unquoted_text_is_typed_by_the_schema(key: str, text: str, value: object) -> None:
    read = json.loads(Tools(TOOLS).schema("f").member(key).json(text))
    assert (type(read), read) == (type(value), value)


def test_function_without_schema_accepts_anything() -> None:
    assert Tools(TOOLS).schema("g").member("x").json("[1]") == "[1]"


def test_references_are_followed() -> None:
    parameters = {"properties": {"list": {"$ref": "#/$defs/L"}}, "$defs": {"L": {"items": {"type": "string"}}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    assert Tools(tools).schema("f").member("list").item().json("1") == '"1"'


def test_members_of_combined_schemas() -> None:
    parameters = {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}, {"type": "object"}]}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    assert Tools(tools).schema("f").members() == {"a", "b"}
    assert Tools(tools).schema("g").members() == frozenset()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1.10", "1.10"),
        ("'a\\n'", '"a\\n"'),
        ("None", "null"),
        ("(1, 'a')", '[1, "a"]'),
        ("-1", "-1"),
        ("{1, 2}", None),
        ("f(1)", None),
        ("1 +", None),
        ("nan", None),
        ("b'a'", None),
        ("", None),
    ],
)
def test_python_literal_to_json(text: str, written: str | None) -> None:
    assert literal_json(text) == written

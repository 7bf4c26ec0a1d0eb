"""The operations on grammar trees."""

from __future__ import annotations

import pickle

import pytest
from mlx_host.errors import UnsupportedRequestError
from mlx_host.grammar import (
    FreeText,
    JsonValue,
    LiteralText,
    Pattern,
    Repeat,
    chain,
    iter_leaves,
    merge_literals,
    one_of,
    optional,
    strip_prefix,
)
from mlx_host.parsing import OutputConstraint, SchemaNode, ToolChoice, ToolFunction, UnquotedValue, tool_functions
from mlx_host.parsing.call_grammars import MAX_CALLS, one_or_more
from mlx_host.parsing.schema_regex import whole_regex
from mlx_host.parsing.unquoted_values import FORMATS

from tests.core.parsing.example_parsers import TOOLS, Glm, Llama, Tagged
from tests.parsers.grammar_walks import Vocabulary

BYTES = Vocabulary()


def test_strip_prefix() -> None:
    call = chain(chain("<call>\n", JsonValue(True)), "</call>")
    assert strip_prefix(call, "<call>") == chain(chain("\n", JsonValue(True)), "</call>")
    assert strip_prefix(one_of("a1", "b1", "a2"), "a") == one_of("1", "2")
    assert strip_prefix(one_of("b"), "a") is None
    assert strip_prefix(chain(Pattern("a")), "a") is None
    repeated = strip_prefix(Repeat(LiteralText("ab"), 2, 3), "a")
    assert repeated is not None
    assert [n for n in range(5) if BYTES.admits(repeated, "b" + "ab" * n)] == [1, 2]


def test_adjacent_literals_are_merged() -> None:
    grammar = chain("a", chain("b", one_of(chain("c", "d"), "e")), "f", "g")
    assert merge_literals(grammar) == chain("ab", one_of(chain("cd"), "e"), "fg")


def test_leaves_are_in_text_order() -> None:
    grammar = chain("a", optional(one_of("b", Pattern("c"))))
    assert list(iter_leaves(grammar)) == [LiteralText("a"), LiteralText("b"), Pattern("c")]


@pytest.mark.parametrize(
    ("pattern", "found", "missing"),
    [
        ("^a+$", ["a", "aa"], ["", "ba"]),
        ("a|^b", ["xa", "ax", "bx"], ["xb"]),
        (r"^\d[\d\w]$", ["1x", "1_"], ["x1"]),
        (r"^(a|b)\$$", ["a$"], ["a"]),
        (r"^[]^$]+?$", ["]^$"], ["x"]),
        ("", ["", "x"], []),
    ],
)
def test_a_pattern_matches_anywhere(pattern: str, found: list[str], missing: list[str]) -> None:
    regex = whole_regex(pattern)
    assert regex is not None
    assert all(BYTES.admits(Pattern(regex), text) for text in found)
    assert not any(BYTES.admits(Pattern(regex), text) for text in missing)


@pytest.mark.parametrize("pattern", ["(?=a)b", "(?<!a)b", r"(a)\1", "a^b", "(^a|b)", r"\bx", "(", 7])
def test_unsupported_patterns_are_rejected(pattern: object) -> None:
    assert whole_regex(pattern) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date", "2024-02-28"),
        ("time", "23:59:00Z"),
        ("date-time", "2024-12-31T00:00:00.5+02:00"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000"),
        ("ipv4", "192.168.0.255"),
        ("email", "ann.lee@example.org"),
        ("hostname", "a-b.example.org"),
        ("uri", "https://example.org/a?b=c#d"),
    ],
)
def test_a_format_admits_only_matching_texts(name: str, text: str) -> None:
    assert BYTES.admits(Pattern(FORMATS[name]), text)
    assert not BYTES.admits(Pattern(FORMATS[name]), "no " + text)


def place(node: dict[str, object]) -> SchemaNode:
    return SchemaNode(node, node, "f")


@pytest.mark.parametrize(
    ("node", "admitted", "rejected"),
    [
        ({"type": "string"}, ["x\n", "null\n", "\n", ""], []),
        ({"type": "string", "maxLength": 2}, ["ab\n", "\n"], ["ab", "abc\n"]),
        ({"type": "string", "minLength": 2, "maxLength": 300}, ["ab\n", "x" * 290 + "\n"], ["a\n", "x" * 301 + "\n"]),
        ({"type": "string", "pattern": "^a"}, ["a\n", "a<\n"], ["a", "b\n"]),
        ({"type": ["string", "object"]}, ["x\n", "{}\n"], ["{x\n", " {x\n"]),
        ({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 3}]}, ["x\n", "3\n"], ["2\n", "2x\n"]),
        ({"enum": ["a", 1, None]}, ["a\n", "1\n", "null\n"], ["b\n", "2\n"]),
        ({"type": "string", "enum": ["a", 1]}, ["a\n"], ["1\n"]),
        ({"type": "boolean"}, ["true\n"], ["True\n", "yes\n"]),
        ({}, ["x\n", "{\n"], []),
        ({"minimum": 3}, ["3\n"], ["2\n"]),
    ],
)
def test_unquoted_values(node: dict[str, object], admitted: list[str], rejected: list[str]) -> None:
    grammar = UnquotedValue("</p>", pad="\n").value(place(node))
    assert [text for text in admitted if not BYTES.admits(grammar, text + "</p>")] == []
    assert [text for text in rejected if BYTES.admits(grammar, text + "</p>")] == []


@pytest.mark.parametrize(
    ("node", "keyword"),
    [
        ({"type": "string", "pattern": "(?=a)"}, "pattern"),
        ({"type": "string", "pattern": "a", "maxLength": 300}, "maxLength"),
        ({"type": "string", "minLength": "3"}, "minLength"),
        ({"allOf": [{"type": "string"}, {"minLength": 1}]}, "allOf"),
        ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 1}]}, "oneOf"),
        ({"anyOf": [{"type": "string"}], "maxLength": 3}, "anyOf"),
        ({"$ref": "https://example.org/schema"}, "$ref"),
        ({"$ref": "#"}, "$ref"),
        ({"enum": []}, "enum"),
        ({"enum": ["</p>"]}, "enum"),
    ],
)
def test_unsupported_schemas_of_unquoted_values(node: dict[str, object], keyword: str) -> None:
    with pytest.raises(UnsupportedRequestError, match=f"'f'.*{keyword[1:]}") as caught:
        UnquotedValue("</p>").value(place(node))
    assert caught.value.param == "tools"


def arguments(parameters: object) -> ToolFunction:
    return tool_functions([{"type": "function", "function": {"name": "f", "parameters": parameters}}])[0]


@pytest.mark.parametrize(
    ("parameters", "admitted", "rejected"),
    [
        ({"type": "object"}, ['{"a": 1}'], []),
        (None, ["{}"], ['{"a": 1}']),
        ({"properties": {"a": {"type": "string", "format": "path"}}}, ["{}", '{"a": "x"}'], ['{"b": 1}', "[]"]),
        ({"properties": {}, "required": ["a"]}, ['{"a": 1}'], ["{}", '{"a": 1, "b": 1}']),
        ({"properties": {"a": {}}, "additionalProperties": True}, ['{"b": 1}'], []),
        ({"anyOf": [{"required": ["a"]}], "properties": {"a": {}}}, ['{"a": 1}'], ["{}", "7"]),
    ],
)
def test_arguments_as_json(parameters: object, admitted: list[str], rejected: list[str]) -> None:
    grammar = arguments(parameters).json()
    assert [text for text in admitted if not BYTES.admits(grammar, text)] == []
    assert [text for text in rejected if BYTES.admits(grammar, text)] == []


@pytest.mark.parametrize("parameters", [{"type": "array"}, "x", 7, {"properties": []}, {"properties": {"a": "x"}}])
def test_parameters_must_be_an_object_schema(parameters: object) -> None:
    with pytest.raises(UnsupportedRequestError) as caught:
        arguments(parameters).json()
    assert caught.value.param == "tools"


def test_a_constraint_can_be_pickled() -> None:
    constraint = OutputConstraint(Tagged, Llama, TOOLS, ToolChoice(required=True), LiteralText("x"))
    assert pickle.loads(pickle.dumps(constraint)) == constraint


@pytest.mark.parametrize(
    ("tail", "admitted", "rejected"),
    [
        ("", ["yes", "<think>R</think>\nyes", "<think></think>yes"], ["no", "R</think>yes"]),
        ("<think>\n", ["</think>yes", "R <call> no</think>\n\nyes"], ["yes", "R</think>no"]),
        ("<think>\n\n</think>\n\n", ["yes"], ["<think>R</think>yes", "R</think>yes"]),
    ],
)
def test_the_constraint_begins_after_reasoning(tail: str, admitted: list[str], rejected: list[str]) -> None:
    grammar = OutputConstraint(Tagged, Tagged, (), content=LiteralText("yes")).grammar(tail)
    assert [text for text in admitted if not BYTES.admits(grammar, text)] == []
    assert [text for text in rejected if BYTES.admits(grammar, text)] == []


def test_a_model_without_reasoning_cannot_reason() -> None:
    grammar = OutputConstraint(Tagged, Tagged, (), content=LiteralText("yes"), can_reason=False).grammar("")
    assert BYTES.admits(grammar, "yes")
    assert not BYTES.admits(grammar, "<think>")


def test_the_chat_template_decides_whether_a_model_reasons() -> None:
    assert Tagged.can_reason("{% if thinking %}<think>{% endif %}")
    assert Tagged.can_reason("{{ message.split('</think>')[-1] }}")
    assert not Tagged.can_reason("<|im_start|>assistant")


def test_the_number_of_calls_is_limited() -> None:
    many = one_or_more(LiteralText("f()"), ToolChoice(required=True), between=";")
    assert BYTES.admits(many, "f()" + ";f()" * (MAX_CALLS - 1))
    assert not BYTES.admits(many, "f()" + ";f()" * MAX_CALLS)


def test_without_parsers_only_the_format_is_constrained() -> None:
    assert OutputConstraint(None, None, (), content=LiteralText("yes")).grammar("<think>") == LiteralText("yes")
    assert OutputConstraint(None, None).grammar("") == FreeText()


def test_a_family_without_a_call_grammar_cannot_be_forced() -> None:
    with pytest.raises(UnsupportedRequestError, match="'glm'"):
        OutputConstraint(Glm, Glm, TOOLS, ToolChoice(required=True)).grammar("")

"""What a family's grammar admits, its parser reads as calls that conform to the tools; drawn at random."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from mlx_host.cli import discover
from mlx_host.errors import UnsupportedRequest
from mlx_host.grammar import Grammar
from mlx_host.parsing import Content, Parser, Part, ToolCall, ToolChoice
from mlx_host.requests import Json

from tests.parsers.reading import read
from tests.parsers.tools import SCHEMAS, tools_of
from tests.parsers.walks import Vocabulary

ONE = ToolChoice(required=True, parallel=False)
ANY_NUMBER = ToolChoice(required=True)
WITHOUT_CALLS = {"deepseek_r1"}

# The schemas that a family's format cannot guarantee.
TAGGED = {"alternatives", "patterned keys"}
NESTED = {*TAGGED, "recursive"}
REFUSED: dict[str, set[str]] = {
    **dict.fromkeys(("qwen3_coder", "qwen3_5", "glm4_moe", "minimax", "deepseek_v32", "deepseek_v4"), TAGGED),
    **dict.fromkeys(("kimi_k3", "lfm2"), TAGGED),
    "minimax_m3": {*NESTED, "open", "others of one type", "others of any type"},
    **dict.fromkeys(("gemma4", "function_gemma"), NESTED),
}


@cache
def families() -> dict[str, type[Parser]]:
    found = discover().parsers.found.values()
    return {parser.name: parser for parser in found if parser.name not in WITHOUT_CALLS}


@cache
def vocabulary(*special: str) -> Vocabulary:
    return Vocabulary(special)


def grammar_of(parser: type[Parser], schema: str, choice: ToolChoice) -> Grammar:
    return parser().grammar(tools_of(schema), choice)


def parts_of(parser: type[Parser], text: str, tools: tuple[Json, ...]) -> list[Part]:
    """What comes out of a text, whole and in pieces."""
    whole = [part for parts in read(parser, [text], tools=tools) for part in parts]
    cut = [
        part
        for parts in read(parser, [text[at : at + 5] for at in range(0, len(text), 5)], tools=tools)
        for part in parts
    ]
    assert calls(cut) == calls(whole)
    return whole


def calls(parts: list[Part]) -> list[tuple[str, dict[str, Any]]]:
    return [(part.name, json.loads(part.arguments)) for part in parts if isinstance(part, ToolCall)]


def check(parser: type[Parser], text: str, tools: tuple[Json, ...], *, one: bool) -> None:
    parts = parts_of(parser, text, tools)
    made = calls(parts)
    assert made, text
    assert not one or len(made) == 1, text
    assert not [part for part in parts if isinstance(part, Content)], (text, parts)
    schemas = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in tools}
    for name, arguments in made:
        errors = [error.message for error in Draft202012Validator(schemas[name]).iter_errors(arguments)]
        assert not errors, (text, arguments, errors)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "family" in metafunc.fixturenames:
        metafunc.parametrize("family", sorted(families()))


def test_forced_calls_are_read_back_and_conform(family: str) -> None:
    parser = families()[family]
    for schema in SCHEMAS:
        if schema in REFUSED.get(family, ()):
            continue
        tools = tools_of(schema)
        for choice in (ONE, ANY_NUMBER):
            grammar = grammar_of(parser, schema, choice)
            for seed in range(3):
                text = vocabulary().walk(grammar, seed)
                try:
                    check(parser, text, tools, one=not choice.parallel)
                except AssertionError as error:
                    raise AssertionError(f"{family} {schema!r} seed {seed}: {error}") from error


@pytest.mark.parametrize("schema", sorted({schema for refused in REFUSED.values() for schema in refused}))
def test_what_a_format_cannot_guarantee_is_refused(family: str, schema: str) -> None:
    if schema not in REFUSED.get(family, ()):
        pytest.skip("this family's format can")
    with pytest.raises(UnsupportedRequest, match="try-it") as caught:
        grammar_of(families()[family], schema, ONE)
    assert caught.value.param == "tools"

"""What a family's grammar admits, its parser reads as calls that conform to the tools; drawn at random."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from mlx_host._cli import discover
from mlx_host.errors import UnsupportedRequestError
from mlx_host.grammar import Grammar, JsonValue
from mlx_host.parsing import Content, OutputConstraint, Parser, Part, ToolCall, ToolChoice
from mlx_host.requests import Json
from mlx_host.testing.samples import load_samples

from tests.parsers.reading import read
from tests.parsers.tools import SCHEMAS, tool, tools_of
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


def parts_of(parser: type[Parser], text: str, tools: tuple[Json, ...], generation_prompt: str = "") -> list[Part]:
    """What comes out of a text, whole and in pieces."""
    pieces = [text[at : at + 5] for at in range(0, len(text), 5)]
    whole, cut = (
        [part for parts in read(parser, way, tools=tools, generation_prompt=generation_prompt) for part in parts]
        for way in ([text], pieces)
    )
    assert calls(cut) == calls(whole)
    return whole


def calls(parts: list[Part]) -> list[tuple[str, dict[str, Any]]]:
    return [(part.name, json.loads(part.arguments)) for part in parts if isinstance(part, ToolCall)]


def check(parser: type[Parser], text: str, tools: tuple[Json, ...], *, one: bool, generation_prompt: str = "") -> None:
    """A text is calls that conform to the tools, and maybe thoughts, and nothing else."""
    parts = parts_of(parser, text, tools, generation_prompt)
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


@pytest.mark.parametrize(("name", "schema"), sorted((name, schema) for name in REFUSED for schema in REFUSED[name]))
def test_what_a_format_cannot_guarantee_is_refused(name: str, schema: str) -> None:
    with pytest.raises(UnsupportedRequestError, match="try-it") as caught:
        grammar_of(families()[name], schema, ONE)
    assert caught.value.param == "tools"


def answer(
    parser: type[Parser], choice: ToolChoice, schema: str = "plain", tail: str = "", form: Any = None
) -> Grammar:
    asked = [tool("try-it", SCHEMAS[schema], strict=True), tool("try", SCHEMAS["plain"], strict=True)]
    return OutputConstraint(parser, parser, asked, choice, form).grammar(tail)


def markers_of(parser: type[Parser]) -> tuple[str, ...]:
    """The tags of a family that are no words."""
    return tuple(sorted(marker for marker in parser.markers if not marker[0].isalnum() and len(marker) > 2))


def test_markers_may_be_tokens_of_their_own(family: str) -> None:
    parser = families()[family]
    tokens = vocabulary(*markers_of(parser))
    for schema in ("plain", "types", "none"):
        for seed in range(2):
            text = tokens.walk(answer(parser, ANY_NUMBER, schema), seed)
            check(parser, text, tools_of(schema), one=False)


def test_thinking_is_free_and_then_the_calls_begin(family: str) -> None:
    parser = families()[family]
    tails = {sample.generation_prompt for sample in load_samples(parser)}
    for tail in sorted(tails):
        for seed in range(3):
            text = vocabulary().walk(answer(parser, ANY_NUMBER, tail=tail), seed)
            check(parser, text, tools_of("plain"), one=False, generation_prompt=tail)


def test_a_form_and_tools_go_together(family: str) -> None:
    """A call or the form, as the model likes."""
    parser = families()[family]
    form = JsonValue(
        {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    )
    tail = "<|open|>response<|sep|>" if family == "kimi_k3" else ""
    grammar = answer(parser, ToolChoice(), form=form, tail=tail)
    split_by_type = set()
    for seed in range(12):
        parts = parts_of(parser, vocabulary().walk(grammar, seed), tools_of("plain"), tail)
        content = "".join(part.text for part in parts if isinstance(part, Content)).strip()
        assert bool(calls(parts)) != bool(content)
        split_by_type.add(bool(content))
        assert not content or json.loads(content).keys() == {"n"}
    assert split_by_type == {True, False}


def test_what_the_family_writes_is_admitted(family: str) -> None:
    """A grammar that models would not follow by themselves makes their answers worse."""
    parser = families()[family]
    admitted = []
    for sample in load_samples(parser):
        if not sample.calls or sample.content:
            continue
        text = sample.text
        for noise in ("<|call|>", *getattr(parser, "noise", ())):
            text = text.removesuffix(noise)
        constraint = OutputConstraint(parser, parser, list(sample.tools), ANY_NUMBER)
        if vocabulary().admits(constraint.grammar(sample.generation_prompt), text):
            admitted.append(sample.name)
    assert admitted


# What may stand before a call, for families whose text is a message of its own.
BEFORE = {
    "harmony": "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant",
    "llama3_json": "I look.\n<|python_tag|>",
}
TEXT = {"harmony": "<|channel|>final<|message|>It is cold."}
OSLO = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("tokens", [False, True], ids=["spelled", "tokens"])
def test_strict_tools_bind_as_soon_as_a_call_opens(family: str, tokens: bool) -> None:
    parser = families()[family]
    words = vocabulary(*markers_of(parser)) if tokens else vocabulary()
    strict = [tool("look", OSLO, strict=True)]
    call = words.walk(parser().grammar(strict, ONE), 0).removeprefix("<|python_tag|>")
    free = OutputConstraint(parser, parser, strict, ToolChoice()).grammar("")
    before = BEFORE.get(family, "I look.\n")
    assert words.admits(free, TEXT.get(family, "It is <cold>: {7} [8].\n"))
    assert words.admits(free, call)
    assert words.admits(free, before + call)
    wrong = before + call.replace("Oslo", "Rome")
    assert words.matched_tokens(free, wrong) < len(words.tokens(wrong))
    assert not words.admits(free, before + call[: call.index("Oslo")])
    if family != "harmony":
        again = before + call + "\n" + BEFORE.get(family, "") + call
        alone = OutputConstraint(parser, parser, strict, ToolChoice(parallel=False)).grammar("")
        assert words.admits(alone, before + call)
        assert not words.admits(alone, again)
        assert words.admits(free, again) or family == "kimi_k3"


def test_tools_that_are_not_strict_are_not_bound(family: str) -> None:
    parser = families()[family]
    relaxed = OutputConstraint(parser, parser, [tool("look", OSLO)], ToolChoice()).grammar("")
    text = vocabulary().walk(
        parser().grammar([tool("look", {**OSLO, "properties": {"city": {"const": "Rome"}}})], ONE), 0
    )
    assert vocabulary().admits(relaxed, text)


def test_an_opener_that_the_grammar_does_not_write_is_no_way_round(family: str) -> None:
    parser = families()[family]
    free = OutputConstraint(parser, parser, [tool("look", OSLO, strict=True)], ToolChoice()).grammar("")
    for sample in load_samples(parser):
        if sample.calls:
            assert not vocabulary().admits(free, sample.text), sample.name


@pytest.mark.parametrize("thinker", ["deepseek_r1", "qwen3", "harmony"])
def test_a_family_may_think_for_another_that_calls(thinker: str) -> None:
    parsers = {parser.name: parser for parser in discover().parsers.found.values()}
    asked = [tool("look", OSLO)]
    constraint = OutputConstraint(parsers[thinker], parsers["qwen3_coder"], asked, ONE)
    for seed in range(4):
        text = vocabulary().walk(constraint.grammar(""), seed)
        thoughts = [part for parts in read(parsers[thinker], [text], tools=()) for part in parts]
        content = "".join(part.text for part in thoughts if isinstance(part, Content))
        check(parsers["qwen3_coder"], content, tuple(asked), one=True)


def test_a_family_without_calls_refuses_to_force_any() -> None:
    parser = {parser.name: parser for parser in discover().parsers.found.values()}["deepseek_r1"]
    with pytest.raises(UnsupportedRequestError, match="deepseek_r1") as caught:
        parser().grammar(tools_of("plain"), ONE)
    assert caught.value.param == "tool_choice"

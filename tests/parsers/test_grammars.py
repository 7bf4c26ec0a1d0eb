"""Random texts of each family's grammar are parsed as calls that conform to the tools."""

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

from tests.parsers.feeding import read
from tests.parsers.grammar_walks import Vocabulary
from tests.parsers.tool_schemas import SCHEMAS, tool, tools_of

ONE = ToolChoice(required=True, parallel=False)
ANY_NUMBER = ToolChoice(required=True)
WITHOUT_CALLS = {"deepseek_r1"}

# The schemas that a family's format cannot guarantee.
TAGGED = {"alternatives", "patterned keys"}
NESTED = {*TAGGED, "recursive"}
UNSUPPORTED: dict[str, set[str]] = {
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
    """Return the parts of a text; whole and chunked text must give the same calls."""
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
    """Check that a text consists of calls that conform to the tools, and optionally reasoning."""
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


def test_forced_calls_conform_to_their_schemas(family: str) -> None:
    parser = families()[family]
    for schema in SCHEMAS:
        if schema in UNSUPPORTED.get(family, ()):
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


@pytest.mark.parametrize(
    ("name", "schema"), sorted((name, schema) for name in UNSUPPORTED for schema in UNSUPPORTED[name])
)
def test_unsupported_schema_is_rejected(name: str, schema: str) -> None:
    with pytest.raises(UnsupportedRequestError, match="try-it") as caught:
        grammar_of(families()[name], schema, ONE)
    assert caught.value.param == "tools"


def output_grammar_of(
    parser: type[Parser], choice: ToolChoice, schema: str = "plain", generation_prompt: str = "", content: Any = None
) -> Grammar:
    asked = [tool("try-it", SCHEMAS[schema], strict=True), tool("try", SCHEMAS["plain"], strict=True)]
    return OutputConstraint(parser, parser, asked, choice, content).grammar(generation_prompt)


def markers_of(parser: type[Parser]) -> tuple[str, ...]:
    """Return the markers of a family that are not words."""
    return tuple(sorted(marker for marker in parser.markers if not marker[0].isalnum() and len(marker) > 2))


def test_markers_can_be_special_tokens(family: str) -> None:
    parser = families()[family]
    tokens = vocabulary(*markers_of(parser))
    for schema in ("plain", "types", "none"):
        for seed in range(2):
            text = tokens.walk(output_grammar_of(parser, ANY_NUMBER, schema), seed)
            check(parser, text, tools_of(schema), one=False)


def test_reasoning_precedes_forced_calls(family: str) -> None:
    parser = families()[family]
    tails = {sample.generation_prompt for sample in load_samples(parser)}
    for generation_prompt in sorted(tails):
        for seed in range(3):
            text = vocabulary().walk(output_grammar_of(parser, ANY_NUMBER, generation_prompt=generation_prompt), seed)
            check(parser, text, tools_of("plain"), one=False, generation_prompt=generation_prompt)


def test_output_format_with_tools(family: str) -> None:
    """The model may write a call or content in the output format."""
    parser = families()[family]
    form = JsonValue(
        {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    )
    generation_prompt = "<|open|>response<|sep|>" if family == "kimi_k3" else ""
    grammar = output_grammar_of(parser, ToolChoice(), content=form, generation_prompt=generation_prompt)
    kinds = set()
    for seed in range(12):
        parts = parts_of(parser, vocabulary().walk(grammar, seed), tools_of("plain"), generation_prompt)
        content = "".join(part.text for part in parts if isinstance(part, Content)).strip()
        assert bool(calls(parts)) != bool(content)
        kinds.add(bool(content))
        assert not content or json.loads(content).keys() == {"n"}
    assert kinds == {True, False}


def test_grammar_matches_written_calls(family: str) -> None:
    """A grammar that differs from the model's own format would degrade its output."""
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


# The text before a call, for families whose text is a separate message.
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
def test_strict_tools_are_constrained_from_the_call_start(family: str, tokens: bool) -> None:
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


def test_tools_that_are_not_strict_are_unconstrained(family: str) -> None:
    parser = families()[family]
    relaxed = OutputConstraint(parser, parser, [tool("look", OSLO)], ToolChoice()).grammar("")
    text = vocabulary().walk(
        parser().grammar([tool("look", {**OSLO, "properties": {"city": {"const": "Rome"}}})], ONE), 0
    )
    assert vocabulary().admits(relaxed, text)


def test_alternative_call_start_does_not_bypass_the_grammar(family: str) -> None:
    parser = families()[family]
    free = OutputConstraint(parser, parser, [tool("look", OSLO, strict=True)], ToolChoice()).grammar("")
    for sample in load_samples(parser):
        if sample.calls:
            assert not vocabulary().admits(free, sample.text), sample.name


@pytest.mark.parametrize("reasoner", ["deepseek_r1", "qwen3", "harmony"])
def test_reasoning_and_calls_of_different_families(reasoner: str) -> None:
    parsers = {parser.name: parser for parser in discover().parsers.found.values()}
    asked = [tool("look", OSLO)]
    constraint = OutputConstraint(parsers[reasoner], parsers["qwen3_coder"], asked, ONE)
    for seed in range(4):
        text = vocabulary().walk(constraint.grammar(""), seed)
        reasoning = [part for parts in read(parsers[reasoner], [text], tools=()) for part in parts]
        content = "".join(part.text for part in reasoning if isinstance(part, Content))
        check(parsers["qwen3_coder"], content, tuple(asked), one=True)


def test_family_without_calls_rejects_forced_calls() -> None:
    parser = {parser.name: parser for parser in discover().parsers.found.values()}["deepseek_r1"]
    with pytest.raises(UnsupportedRequestError, match="deepseek_r1") as caught:
        parser().grammar(tools_of("plain"), ONE)
    assert caught.value.param == "tool_choice"

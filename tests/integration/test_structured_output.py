"""Structured outputs from a model with random weights, which would follow none of the formats unconstrained."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import jsonschema
import openai
import pytest

from tests.support.client import children, error_of, post, wait_for_queue
from tests.support.json_schemas import CLOCK, CLOCK_SCHEMA, WEATHER, WEATHER_SCHEMA, Trip, Zone, reference_chain, tool
from tests.support.load_client import connect, request, run_concurrently, send_request
from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_llama import write_tiny_llama

ASKED: list[Any] = [{"role": "user", "content": "Where shall we go?"}]
M: dict[str, Any] = {"model": "tiny", "max_tokens": 200}
WEATHER_FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "weather", "schema": WEATHER_SCHEMA}}


def with_call_token(folder: Path) -> Path:
    """Add the token that starts a call to a model, as in models trained for tool calls."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = folder / name
        file.write_text(file.read_text().replace("<file_sep>", "<tool_call>"))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = with_call_token(write_tiny_llama(tmp_path_factory.mktemp("tiny")))
    command = ["--backend", "lm", "--model", str(folder), "--served-model-name", "tiny", *FAST_BLAS]
    with running_server(*command, "--tool-call-parser", "hermes") as running:
        yield running


def chat(client: openai.OpenAI, seed: int = 0, **more: Any) -> Any:
    """Request a chat completion and return its only choice."""
    response = client.chat.completions.create(**{**M, "messages": ASKED, "seed": seed, **more})
    return response.choices[0]


def arguments(call: Any, name: str, schema: dict[str, Any]) -> Any:
    """A call's arguments, after validating them against the schema."""
    assert call.function.name == name
    value = json.loads(call.function.arguments)
    jsonschema.validate(value, schema)
    return value


# Content


def test_parse_returns_the_pydantic_model(client: openai.OpenAI) -> None:
    for seed in range(3):
        response = client.chat.completions.parse(**M, messages=ASKED, response_format=Trip, seed=seed)
        message = response.choices[0].message
        assert isinstance(message.parsed, Trip)
        assert message.refusal is None
        assert response.choices[0].finish_reason == "stop"


def test_constrained_content_is_streamed_incrementally(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**M, messages=ASKED, response_format=Trip, seed=1) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Trip)
    assert [len(text) for text in snapshots] == sorted(len(text) for text in snapshots)
    assert snapshots[-1] == final.choices[0].message.content


def test_constrained_content_is_emitted_before_it_is_complete(client: openai.OpenAI) -> None:
    endless = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
    format: Any = {"type": "json_schema", "json_schema": {"name": "endless", "schema": endless}}
    with client.chat.completions.create(model="tiny", messages=ASKED, response_format=format, stream=True) as stream:
        first = next(chunk for chunk in stream if chunk.choices[0].delta.content)
        stats: Any = client.get("/queue/stats", cast_to=object)
    assert str(first.choices[0].delta.content).startswith("[")
    assert stats["queue_stats"]["running"]


def test_truncated_constrained_content_has_finish_reason_length(client: openai.OpenAI) -> None:
    endless = {"type": "array", "items": {"type": "string"}, "minItems": 100}
    format: Any = {"type": "json_schema", "json_schema": {"name": "endless", "schema": endless}}
    choice = chat(client, response_format=format, max_tokens=40)
    assert choice.finish_reason == "length"
    assert choice.message.content.startswith("[")
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="tiny", messages=ASKED, response_format=Trip, max_tokens=4)


def test_json_object(client: openai.OpenAI) -> None:
    # The length of a random object is unknown: a truncated one must be a prefix of an object.
    choice = chat(client, response_format={"type": "json_object"}, max_tokens=60)
    assert choice.message.content.lstrip().startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize(
    ("wanted", "pattern"),
    [
        ({"regex": "[0-9]{4}-[0-9]{2}-[0-9]{2}"}, "[0-9]{4}-[0-9]{2}-[0-9]{2}"),
        ({"regex": "[äöü]{3}🦊"}, "[äöü]{3}🦊"),
        ({"choice": ["positive", "negative", "neither/nor"]}, "positive|negative|neither/nor"),
        ({"choice": ["<|im_end|>", "a <|im_start|>"]}, r"<\|im_end\|>|a <\|im_start\|>"),
        ({"choice": ["a\nb", "c-d #&~", 'e"\\']}, r"a\nb|c-d \#&~|e\"\\"),
        ({"choice": [f"number {number}" for number in range(5000)]}, "number [0-9]{1,4}"),
        ({"grammar": 'start: "SELECT " column " FROM t"\ncolumn: "a" | "b"'}, "SELECT [ab] FROM t"),
        ({"json": {"enum": [1, "two", None]}}, '1|"two"|null'),
        ({"json": '{"const": "x"}'}, '"x"'),
    ],
)
def test_structured_outputs(client: openai.OpenAI, wanted: Any, pattern: str) -> None:
    extra: dict[str, Any] = {"extra_body": {"structured_outputs": wanted}}
    choice = chat(client, **extra)
    assert re.fullmatch(pattern, choice.message.content), choice
    assert choice.finish_reason == "stop"
    legacy = client.completions.create(**M, prompt="It is", **extra).choices[0]
    assert re.fullmatch(pattern, legacy.text), legacy
    assert legacy.finish_reason == "stop"
    pieces = client.completions.create(**M, prompt="It is", stream=True, **extra)
    assert re.fullmatch(pattern, "".join(piece.choices[0].text for piece in pieces))


def test_each_choice_has_the_format(client: openai.OpenAI) -> None:
    response = client.chat.completions.create(**M, messages=ASKED, n=4, response_format=WEATHER_FORMAT, temperature=1.5)
    text = [json.loads(choice.message.content or "") for choice in response.choices]
    assert len(text) == 4
    for value in text:
        jsonschema.validate(value, WEATHER_SCHEMA)
    body = {"prompt": ["a", "b"], "n": 2, "response_format": WEATHER_FORMAT, "max_tokens": 100}
    legacy = client.completions.create(model="tiny", prompt=["a", "b"], n=2, max_tokens=100, extra_body=body)
    assert len(legacy.choices) == 4
    for choice in legacy.choices:
        jsonschema.validate(json.loads(choice.text), WEATHER_SCHEMA)


def test_logprobs_are_normalized_over_the_allowed_tokens(client: openai.OpenAI) -> None:
    extra = {"structured_outputs": {"choice": ["cat", "dog"]}}
    choice = chat(client, logprobs=True, top_logprobs=20, extra_body=extra, temperature=1)
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens).startswith(choice.message.content)
    for token in tokens:
        possible = [math.exp(top.logprob) for top in token.top_logprobs if top.logprob > -9999]
        assert math.isclose(sum(possible), 1, abs_tol=0.01)
        assert all(top.token.strip() == "" or top.token[0] in "cdatog<" for top in token.top_logprobs[: len(possible)])


# Calls


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_call_is_made_and_matches_its_schema(client: openai.OpenAI, stream: bool) -> None:
    for seed in range(3):
        asked: dict[str, Any] = {**M, "messages": ASKED, "seed": seed, "temperature": 1.2, "parallel_tool_calls": False}
        asked |= {"tools": [WEATHER, CLOCK], "tool_choice": "required"}
        if stream:
            with client.chat.completions.stream(**asked) as events:
                choice: Any = events.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**asked).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert not choice.message.content
        (call,) = choice.message.tool_calls
        schema = {"get_weather": WEATHER_SCHEMA, "get_time": CLOCK_SCHEMA}[call.function.name]
        arguments(call, call.function.name, schema)


def test_a_named_function_is_called(client: openai.OpenAI) -> None:
    for named, schema in ((WEATHER, WEATHER_SCHEMA), (CLOCK, CLOCK_SCHEMA)):
        name = named["function"]["name"]
        choice = chat(client, tools=[WEATHER, CLOCK], tool_choice={"type": "function", "function": {"name": name}})
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls
        arguments(call, name, schema)


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_only_allowed_tools_are_called(client: openai.OpenAI, mode: str) -> None:
    allowed = {"mode": mode, "tools": [{"type": "function", "function": {"name": "get_time"}}]}
    choice = chat(
        client,
        tools=[WEATHER, CLOCK],
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
        parallel_tool_calls=False,
        max_tokens=60,
    )
    assert bool(choice.message.tool_calls) or mode == "auto"
    for call in choice.message.tool_calls or ():
        arguments(call, "get_time", CLOCK_SCHEMA)


def test_parallel_calls_match_their_schemas(client: openai.OpenAI) -> None:
    choice = chat(client, tools=[WEATHER, CLOCK], tool_choice="required", max_tokens=300)
    assert choice.message.tool_calls
    for call in choice.message.tool_calls:
        schema = {"get_weather": WEATHER_SCHEMA, "get_time": CLOCK_SCHEMA}[call.function.name]
        arguments(call, call.function.name, schema)


def test_with_a_format_and_tools_the_output_is_a_call_or_has_the_format(client: openai.OpenAI) -> None:
    for seed in range(6):
        choice = chat(
            client,
            seed,
            tools=[{**WEATHER, "function": {**WEATHER["function"], "strict": True}}],
            response_format={"type": "json_schema", "json_schema": {"name": "c", "schema": CLOCK_SCHEMA}},
            parallel_tool_calls=False,
            temperature=2,
        )
        if choice.message.tool_calls:
            (call,) = choice.message.tool_calls
            arguments(call, "get_weather", WEATHER_SCHEMA)
        else:
            jsonschema.validate(json.loads(choice.message.content), CLOCK_SCHEMA)


def test_arguments_of_a_strict_tool_match_its_schema(server: ServerProcess, client: openai.OpenAI) -> None:
    strict = tool("get_weather", WEATHER_SCHEMA, strict=True)
    # The bias makes the random model start a call.
    (opener,) = post(server, {"prompt": "<tool_call>", "add_special_tokens": False}, "/tokenize").json()["tokens"]
    choice = chat(client, tools=[strict], logit_bias={str(opener): 100}, parallel_tool_calls=False, max_tokens=120)
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    arguments(call, "get_weather", WEATHER_SCHEMA)


# Unsupported schemas


@pytest.mark.parametrize(
    ("body", "param", "part"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"not": {}}}}},
            "response_format.json_schema.schema",
            "not",
        ),
        ({"structured_outputs": {"json": {"type": "strange"}}}, "structured_outputs.json", "strange"),
        ({"structured_outputs": {"regex": "(a"}}, "structured_outputs.regex", ""),
        ({"structured_outputs": {"grammar": "begin: 5"}}, "structured_outputs.grammar", ""),
        ({"tools": [tool("f", {"not": {}})], "tool_choice": "required"}, "tools", "not"),
        ({"tools": [tool("f", {"not": {}}, strict=True)]}, "tools", "not"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_schemas_that_cannot_be_compiled_are_rejected(
    server: ServerProcess, body: dict[str, Any], param: str, part: str, stream: bool
) -> None:
    error = error_of(post(server, {**M, "messages": ASKED, "stream": stream, **body}), 400)
    assert str(error["param"]).startswith(param)
    assert part in error["message"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"grammar": "start: a0\n" + "".join(f"a{n}: a{n + 1}\n" for n in range(20_000)) + 'a20000: "x"'},
        {"grammar": "start: a0\n" + "".join(f"a{n}: a{n + 1}\n" for n in range(100_000)) + 'a100000: "x"'},
        {"grammar": "start: " + "(" * 100_000 + '"a"' + ")" * 100_000},
        {"regex": "(" * 100_000 + "a" + ")" * 100_000},
        {"json": reference_chain(5000, lambda inner: inner)},
        {
            "json": reference_chain(
                5000, lambda inner: {"type": "object", "properties": {"a": inner}, "required": ["a"]}
            )
        },
        {"json": reference_chain(25, lambda inner: {"allOf": [inner, inner]})},
        {
            "json": reference_chain(
                25, lambda inner: {"anyOf": [inner, {"type": "array", "items": inner, "maxItems": 2}]}
            )
        },
    ],
    ids=["rules", "too many rules", "brackets", "groups", "references", "objects", "both", "either"],
)
def test_no_grammar_crashes_the_model(server: ServerProcess, wanted: Any) -> None:
    before = children(server)
    response = post(server, {**M, "messages": ASKED, "structured_outputs": wanted, "max_tokens": 20})
    assert response.status_code in (200, 400), response.text
    assert children(server) == before


def test_a_tool_that_is_not_strict_can_have_an_unsupported_schema(server: ServerProcess) -> None:
    loose: list[dict[str, Any]] = [{}, {"strict": False}, {"strict": None}]
    for strict in loose:
        body: dict[str, Any] = {**M, "messages": ASKED, "tools": [tool("f", {"not": {}}, **strict)], "max_tokens": 3}
        assert post(server, body).status_code == 200
        flat = {"type": "function", "name": "f", "parameters": {"not": {}}, **strict}
        assert post(server, {"input": "x", "tools": [flat], "max_output_tokens": 3}, "/v1/responses").status_code == 200


def test_supported_fields_are_not_reported_as_ignored(server: ServerProcess) -> None:
    body = {**M, "messages": ASKED, "tools": [{**WEATHER, "function": {**WEATHER["function"], "strict": True}}]}
    body |= {"tool_choice": "required", "response_format": WEATHER_FORMAT}
    assert "x-mlx-host-ignored" not in post(server, body).headers


# The other APIs


def test_responses_parse_returns_the_pydantic_model(client: openai.OpenAI) -> None:
    response = client.responses.parse(model="tiny", input="Where?", text_format=Trip, max_output_tokens=200)
    assert isinstance(response.output_parsed, Trip)
    assert response.text is not None
    format = response.text.to_dict()["format"]
    assert isinstance(format, dict)
    assert (format["type"], format["name"]) == ("json_schema", "Trip")
    assert "schema" in format
    with client.responses.stream(model="tiny", input="Where?", text_format=Trip, max_output_tokens=200) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Trip)


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "get_time"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_time"}]},
    ],
)
def test_responses_can_force_a_call(client: openai.OpenAI, choice: Any) -> None:
    tools: list[Any] = [{"type": "function", **CLOCK["function"], "strict": True}]
    if choice != "required":
        tools.append({"type": "function", **WEATHER["function"]})
    response = client.responses.create(
        model="tiny",
        input="When?",
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=False,
        max_output_tokens=200,
    )
    (call,) = response.output
    assert call.type == "function_call"
    assert call.name == "get_time"
    jsonschema.validate(json.loads(call.arguments), CLOCK_SCHEMA)
    assert response.to_dict()["tool_choice"] == choice
    assert response.status == "completed"


CLAUDE_TOOLS: list[Any] = [
    {"name": "get_weather", "input_schema": WEATHER_SCHEMA},
    {"name": "get_time", "input_schema": CLOCK_SCHEMA, "strict": True},
]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_time"}])
def test_messages_can_force_a_call(claude: anthropic.Anthropic, choice: Any) -> None:
    asked: dict[str, Any] = {**M, "messages": ASKED, "tools": CLAUDE_TOOLS}
    asked["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
    with claude.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    for message in (claude.messages.create(**asked), streamed):
        assert message.stop_reason == "tool_use"
        block: Any
        (block,) = message.content
        assert block.type == "tool_use"
        assert block.name == choice.get("name", block.name)
        jsonschema.validate(block.input, {"get_weather": WEATHER_SCHEMA, "get_time": CLOCK_SCHEMA}[block.name])


def test_messages_support_output_formats(claude: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {**M, "messages": ASKED}
    message = claude.messages.parse(**asked, output_format=Zone)
    assert isinstance(message.parsed_output, Zone)
    with claude.messages.stream(**asked, output_format=Zone) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Zone)


# Concurrency


CROWD: list[tuple[dict[str, Any], str]] = [
    ({"structured_outputs": {"choice": ["left", "right"]}}, "left|right"),
    ({"structured_outputs": {"regex": "[a-c]{5}"}}, "[a-c]{5}"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": CLOCK_SCHEMA}}}, r"\{.*\}"),
    ({"max_tokens": 20}, r"(?s).*"),
]


def test_concurrent_requests_with_disconnects(server: ServerProcess) -> None:
    async def one(number: int) -> None:
        more, pattern = CROWD[number % len(CROWD)]
        body = {**M, "messages": ASKED, "seed": number, "temperature": 1, **more}
        if number % 3 == 0:
            async with connect(server) as (reader, writer):
                writer.write(request(json.dumps({**body, "stream": True, "max_tokens": 500}).encode()))
                assert await reader.read(100)
            return
        reply = await send_request(server, request(json.dumps(body).encode()))
        assert reply.status == 200
        assert re.fullmatch(pattern, reply.json()["choices"][0]["message"]["content"]), reply.body

    before = children(server)
    asyncio.run(asyncio.wait_for(run_concurrently(one, range(60), concurrency=20), 120))
    wait_for_queue(server, 0)
    assert children(server) == before

"""Schemas that libraries generate, as output formats and as tools, and those that are rejected before the output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.support.client import error_of, post
from tests.support.json_schemas import tool
from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_llama import write_tiny_llama

ASKED: list[Any] = [{"role": "user", "content": "Where shall we go?"}]
MESSAGES = {"messages": ASKED, "max_tokens": 100, "temperature": 1, "seed": 3}
CLOSED = {"additionalProperties": False}
SCORE = {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 95}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    with running_server(
        "--backend", "lm", "--model", str(folder), *FAST_BLAS, "--tool-call-parser", "hermes"
    ) as running:
        yield running


def content(server: ServerProcess, schema: dict[str, Any], **body: Any) -> Any:
    """The JSON of a chat completion's content, validated against the schema."""
    response = post(server, {**MESSAGES, **body})
    assert response.status_code == 200, response.text
    value = json.loads(response.json()["choices"][0]["message"]["content"])
    jsonschema.validate(value, schema)
    return value


def json_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}


CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"], **CLOSED}


def test_a_schema_may_be_at_the_top_level_of_the_response_format(server: ServerProcess) -> None:
    for kind in ("json_object", "json_schema"):
        flat = {"response_format": {"type": kind, "schema": CITY}}
        content(server, CITY, **flat)
        legacy = post(server, {"prompt": "It is", "max_tokens": 60, **flat}, "/v1/completions").json()
        jsonschema.validate(json.loads(legacy["choices"][0]["text"]), CITY)
    text = {"format": {"type": "json_object", "schema": CITY}}
    response = post(server, {"input": "Hi", "text": text, "max_output_tokens": 60}, "/v1/responses").json()
    jsonschema.validate(json.loads(response["output"][0]["content"][0]["text"]), CITY)


LENIENT = [
    {"type": "object", "properties": {"file": {"type": "string", "format": "path", "maxLength": 3}}, **CLOSED},
    {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": SCORE, "required": ["a"]},
    {"type": "object", "propertyNames": {"pattern": "^[a-c]$"}, "additionalProperties": SCORE, "maxProperties": 2},
    {
        "type": "object",
        "properties": {"score": SCORE},
        "required": ["score"],
        "patternProperties": {"^score$": {"type": "integer"}},
        **CLOSED,
    },
    {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 2**53 - 9, "maximum": 2**64 - 1}},
        "required": ["n"],
        **CLOSED,
    },
]


@pytest.mark.parametrize("schema", LENIENT, ids=["format", "names", "name pattern", "pattern", "u64"])
def test_generated_schemas_are_supported(server: ServerProcess, schema: dict[str, Any]) -> None:
    content(server, schema, **json_format(schema))
    forced = post(server, {**MESSAGES, "tools": [tool("f", schema)], "tool_choice": "required"})
    assert forced.status_code == 200, forced.text
    for call in forced.json()["choices"][0]["message"]["tool_calls"] or ():
        jsonschema.validate(json.loads(call["function"]["arguments"]), schema)


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": None},
        {"type": "object", "properties": None, "required": None},
        {"properties": {"city": {"enum": ["Oslo"]}}},
    ],
)
def test_null_and_missing_keywords_of_tools(server: ServerProcess, parameters: dict[str, Any]) -> None:
    function = {"name": "f", "parameters": parameters}
    choices: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {**MESSAGES, "tools": [{"type": "function", "function": function}]},
        "/v1/responses": {"input": "Hi", "max_output_tokens": 100, "tools": [{"type": "function", **function}]},
        "/v1/messages": {**MESSAGES, "tools": [{"name": "f", "input_schema": parameters}]},
    }
    for path, body in choices.items():
        required = {"type": "any"} if path == "/v1/messages" else "required"
        response = post(server, {**body, "tool_choice": required}, path)
        assert response.status_code == 200, response.text
    choice = post(server, {**choices["/v1/chat/completions"], "tool_choice": "required"}).json()["choices"][0]
    for call in choice["message"].get("tool_calls") or ():
        arguments = json.loads(call["function"]["arguments"])
        assert arguments in ({}, {"city": "Oslo"}) or not parameters["properties"]


# llguidance compiles this and gives up at its first token.
COUNTING = "([a-z ]{0,50}[0-9 ]{0,50}){0,100}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("format", "param"),
    [
        ({"structured_outputs": {"regex": COUNTING}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": f"start: /{COUNTING}/"}}, "structured_outputs.grammar"),
        (json_format({"type": "string", "pattern": COUNTING}), "response_format.json_schema.schema"),
        (json_format({"items": {"type": "string", "pattern": COUNTING}}), "response_format.json_schema.schema"),
        ({"tools": [tool("f", {"properties": {"a": {"pattern": COUNTING}}})], "tool_choice": "required"}, "tools"),
    ],
)
def test_regexes_that_fail_at_their_first_token_are_rejected_before_the_output(
    server: ServerProcess, format: dict[str, Any], param: str, stream: bool
) -> None:
    assert error_of(post(server, {**MESSAGES, **format, "stream": stream}), 400)["param"] == param

"""Output formats in each API: which are accepted, and which are rejected with the name of the field."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from mlx_host._apis.chat.request import to_request as chat_request
from mlx_host._apis.chat.schema import ChatBody
from mlx_host._apis.completions.request import CompletionBody, to_requests
from mlx_host._apis.responses.request import to_request as responses_request
from mlx_host._apis.responses.schema import ResponsesBody
from mlx_host.grammar import Grammar, JsonValue, LarkGrammar, Pattern
from openai.types.responses import Response

from tests.support.client import error_of, post, text_script
from tests.support.server import ServerProcess

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
NAMED = {"name": "thing", "schema": SCHEMA}
WRAPPED = {"type": "json_schema", "json_schema": NAMED}
FLAT = {"type": "json_schema", **NAMED}
DEEP = '{"items":' * 900 + "{}" + "}" * 900
HI = [{"role": "user", "content": "Hi"}]


def chat_form(**more: Any) -> Grammar | None:
    return chat_request(ChatBody.model_validate({"messages": HI, **more})).output_format


def completion_form(**more: Any) -> Grammar | None:
    (request,) = to_requests(CompletionBody.model_validate({"prompt": "a", **more}))
    return request.output_format


def response_form(**more: Any) -> Grammar | None:
    body = ResponsesBody.model_validate({"input": "x", **more})
    return responses_request(body, [], [{"type": "message", "role": "user", "content": "x"}]).chat.output_format


@pytest.mark.parametrize("read", [chat_form, completion_form])
@pytest.mark.parametrize(
    ("format", "form"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonValue({"type": "object"}, "response_format")),
        (WRAPPED, JsonValue(SCHEMA, "response_format.json_schema.schema")),
        (
            {"type": "json_schema", "json_schema": {**NAMED, "strict": False, "description": None}},
            JsonValue(SCHEMA, "response_format.json_schema.schema"),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "Page[int]", "schema": {}, "strict": True}},
            JsonValue({}, "response_format.json_schema.schema"),
        ),
        ({"type": "json_object", "schema": SCHEMA}, JsonValue(SCHEMA, "response_format.schema")),
        ({"type": "json_object", "schema": {}}, JsonValue({"type": "object"}, "response_format.schema")),
        ({"type": "json_object", "json_schema": NAMED}, JsonValue(SCHEMA, "response_format.json_schema.schema")),
        ({"type": "json_schema", "schema": SCHEMA}, JsonValue(SCHEMA, "response_format.schema")),
        ({**FLAT, "json_schema": None}, JsonValue(SCHEMA, "response_format.schema")),
    ],
)
def test_response_format(read: Any, format: Any, form: Grammar | None) -> None:
    assert read(response_format=format) == form


@pytest.mark.parametrize(
    ("format", "form"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonValue({"type": "object"}, "text.format")),
        (FLAT, JsonValue(SCHEMA, "text.format.schema")),
        ({**FLAT, "strict": None}, JsonValue(SCHEMA, "text.format.schema")),
        ({"type": "json_object", "schema": SCHEMA}, JsonValue(SCHEMA, "text.format.schema")),
    ],
)
def test_text_format(format: Any, form: Grammar | None) -> None:
    assert response_form(text={"format": format}) == form


@pytest.mark.parametrize("read", [chat_form, completion_form, response_form])
@pytest.mark.parametrize(
    ("given", "form"),
    [
        ({"json": SCHEMA}, JsonValue(SCHEMA, "structured_outputs.json")),
        ({"json": '{"type": "null"}'}, JsonValue({"type": "null"}, "structured_outputs.json")),
        ({"json": {}}, JsonValue({}, "structured_outputs.json")),
        ({"regex": "[ab]+"}, Pattern("[ab]+", "structured_outputs.regex")),
        ({"choice": ["yes", "no"]}, Pattern("yes|no", "structured_outputs.choice")),
        ({"choice": ["a.b", ""]}, Pattern(r"a\.b|", "structured_outputs.choice")),
        ({"grammar": 'start: "a"'}, LarkGrammar('start: "a"', "structured_outputs.grammar")),
        ({"json_object": True}, JsonValue({"type": "object"}, "structured_outputs.json_object")),
        ({"json_object": False, "regex": "a", "json": None}, Pattern("a", "structured_outputs.regex")),
        ({"regex": "a", "whitespace_pattern": None, "structural_tag": None}, Pattern("a", "structured_outputs.regex")),
    ],
)
def test_structured_outputs(read: Any, given: Any, form: Grammar) -> None:
    assert read(structured_outputs=given) == form


def test_response_format_text_can_be_combined_with_structured_outputs() -> None:
    form = Pattern("a", "structured_outputs.regex")
    assert chat_form(response_format={"type": "text"}, structured_outputs={"regex": "a"}) == form
    assert response_form(text={"format": {"type": "text"}}, structured_outputs={"regex": "a"}) == form


PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "a"},
    "/v1/responses": {"input": "x"},
}


@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize(
    ("field", "param", "part"),
    [
        ({"structured_outputs": {}}, "structured_outputs", "exactly one of json, regex, choice, grammar"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs", "got none"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "got regex and choice"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "not valid JSON"),
        ({"structured_outputs": {"json": "[]"}}, "structured_outputs.json", "an object"),
        ({"structured_outputs": {"json": DEEP}}, "structured_outputs.json", "the limit is 100 levels"),
        ({"structured_outputs": {"json": "[" * 100_000}}, "structured_outputs.json", "the limit is 100 levels"),
        ({"structured_outputs": {"json": '{"const": "\\ud800"}'}}, "structured_outputs.json", "not valid Unicode"),
        ({"structured_outputs": {"json": '{"const": NaN}'}}, "structured_outputs.json", "NaN"),
        ({"structured_outputs": {"json": 5}}, "structured_outputs.json", "got 5"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "empty"),
        ({"structured_outputs": {"choice": [1]}}, "structured_outputs.choice[0]", "string"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag", "not supported"),
        ({"structured_outputs": {"json": {}, "whitespace_pattern": " "}}, "structured_outputs.whitespace_pattern", ""),
        (
            {"structured_outputs": {"json": {}, "disable_additional_properties": True}},
            "structured_outputs.disable_additional_properties",
            "additionalProperties: false",
        ),
        ({"guided_json": {}}, "guided_json", "structured_outputs: {'json': ...}"),
        ({"guided_choice": ["a"]}, "guided_choice", "structured_outputs: {'choice': ...}"),
        ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern", "not supported"),
        ({"structural_tag": "{}"}, "structural_tag", "not supported"),
        # The backend of these tests does not support structured outputs.
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs.regex", "no structured output"),
        ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs.choice", "no structured output"),
    ],
)
def test_unsupported_formats_are_rejected_by_every_api(
    server: ServerProcess, path: str, field: dict[str, Any], param: str, part: str
) -> None:
    for stream in (False, True):
        error = error_of(post(server, {**PATHS[path], **field, "stream": stream}, path), 400)
        assert error["param"] == param
        assert part in error["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("format", "param", "part"),
    [
        ({"type": "json_schema"}, "response_format.json_schema", "missing"),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, "response_format.json_schema.schema", "required"),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, "response_format.json_schema.name", "required"),
        (
            {"type": "json_schema", "json_schema": {"name": "", "schema": {}}},
            "response_format.json_schema.name",
            "empty",
        ),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": 5}}, "response_format.json_schema.schema", ""),
        ({"type": "structural_tag", "structures": []}, "response_format.type", "'json_schema'"),
        ({**WRAPPED, "schema": SCHEMA}, "response_format.schema", "both"),
        ({"type": "json_object", "schema": SCHEMA}, "response_format.schema", "no structured output"),
        (WRAPPED, "response_format.json_schema.schema", "no structured output"),
        ({"type": "json_object"}, "response_format", "no structured output"),
    ],
)
def test_invalid_response_formats_are_rejected(
    server: ServerProcess, path: str, format: Any, param: str, part: str
) -> None:
    error = error_of(post(server, {**PATHS[path], "response_format": format}, path), 400)
    assert error["param"] == param
    assert part in error["message"]
    both = {**PATHS[path], "response_format": WRAPPED, "structured_outputs": {"regex": "a"}}
    assert error_of(post(server, both, path), 400)["param"] == "structured_outputs"


@pytest.mark.parametrize(
    ("format", "param", "part"),
    [
        ({"type": "json_schema", "schema": {}}, "text.format.name", "missing"),
        ({"type": "json_schema", "name": "a"}, "text.format.schema", "missing"),
        ({"type": "json_schema", "name": "a", "schema": "x"}, "text.format.schema", "object"),
        (WRAPPED, "text.format.name", "missing"),
        ({"type": "grammar"}, "text.format.type", "'json_schema'"),
        (FLAT, "text.format.schema", "no structured output"),
        ({"type": "json_object"}, "text.format", "no structured output"),
    ],
)
def test_invalid_text_formats_are_rejected(server: ServerProcess, format: Any, param: str, part: str) -> None:
    error = error_of(post(server, {"input": "x", "text": {"format": format}}, "/v1/responses"), 400)
    assert error["param"] == param
    assert part in error["message"]


def test_fields_without_effect_are_listed(server: ServerProcess) -> None:
    open_format = {"type": "text"}
    idle = {"disable_any_whitespace": True, "disable_fallback": False, "regex": "a"}
    error_of(post(server, {"messages": HI, "structured_outputs": idle}), 400)
    body = ChatBody.model_validate({"messages": HI, "structured_outputs": idle, "response_format": open_format})
    assert body.ignored() == ["structured_outputs.disable_any_whitespace", "structured_outputs.disable_fallback"]


def test_strict_is_ignored_without_structured_outputs(server: ServerProcess) -> None:
    flat = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    wrapped = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
    for path, body in (
        ("/v1/chat/completions", {"messages": text_script("x"), "tools": [wrapped]}),
        ("/v1/responses", {"input": text_script("x"), "tools": [flat]}),
    ):
        for stream in (False, True):
            response = post(server, {**body, "stream": stream}, path)
            assert response.headers["x-mlx-host-ignored"] == "tools.strict"
        for less in ({"tool_choice": "none"}, {"tools": None}):
            assert "x-mlx-host-ignored" not in post(server, {**body, **less}, path).headers


def test_output_without_a_format_is_parsed_as_text(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(model="m", messages=text_script("plain"))
    assert (parsed.choices[0].message.content, parsed.choices[0].message.parsed) == ("plain", None)
    assert parsed.choices[0].message.refusal is None


def test_a_response_contains_its_text_format(server: ServerProcess) -> None:
    body = {"input": text_script("x"), "text": {"format": {"type": "text"}, "verbosity": None}}
    response = post(server, body, "/v1/responses").json()
    assert response["text"] == {"format": {"type": "text"}}
    Response.model_validate(response, strict=True)

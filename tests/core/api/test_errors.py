"""Errors: status, OpenAI's error body, the SDK's exceptions; no invalid request results in a 500."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest

from tests.support.client import (
    CHAT,
    connection,
    error_of,
    get,
    head,
    post,
    read_all,
    script,
    text_script,
)
from tests.support.server import ServerProcess

HI = text_script("hi")


def raw(server: ServerProcess, content: bytes, kind: str | None = "application/json") -> httpx2.Response:
    headers = {"content-type": kind} if kind is not None else {}
    return httpx2.post(f"{server.url}{CHAT}", content=content, headers=headers, timeout=60, verify=False)


@pytest.mark.parametrize(
    ("body", "param", "part"),
    [
        ({}, "messages", "is required"),
        ({"messages": []}, "messages", "empty"),
        ({"messages": None}, "messages", "must be a list, got null"),
        ({"messages": "hello"}, "messages", "must be a list, got a string"),
        ({"messages": [5]}, "messages[0]", "must be an object, got 5"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "required"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
        ({"messages": [{"role": "system", "content": None}]}, "messages[0].content", "required"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "'system'"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "must be a string or a list, got 5"),
        ({"messages": HI, "model": 5}, "model", "string"),
        ({"messages": HI, "temperature": 3}, "temperature", "must be at most 2, got 3"),
        ({"messages": HI, "temperature": -1}, "temperature", "must be at least 0, got -1"),
        ({"messages": HI, "temperature": "hot"}, "temperature", "number"),
        ({"messages": HI, "top_p": 0}, "top_p", "greater than 0"),
        ({"messages": HI, "n": 0}, "n", "at least 1"),
        ({"messages": HI, "n": 10**6}, "n", "at most 128"),
        ({"messages": HI, "max_tokens": 0}, "max_tokens", "at least 1"),
        ({"messages": HI, "max_tokens": 10**30}, "max_tokens", "less than"),
        ({"messages": HI, "max_completion_tokens": 1.5}, "max_completion_tokens", "integer"),
        ({"messages": HI, "seed": 2**64}, "seed", "less than"),
        ({"messages": HI, "top_logprobs": 21, "logprobs": True}, "top_logprobs", "20"),
        ({"messages": HI, "top_logprobs": 2}, "top_logprobs", "requires logprobs"),
        ({"messages": HI, "logit_bias": {"hello": 1}}, "logit_bias", "token ids"),
        ({"messages": HI, "logit_bias": {"1": 101}}, "logit_bias.1", "100"),
        ({"messages": HI, "stop": ["x"] * 17}, "stop", "at most 16"),
        ({"messages": HI, "stop": 5}, "stop", "string"),
        ({"messages": HI, "stop": ["x", "y" * 1001]}, "stop", "at most 1000 characters"),
        ({"messages": HI, "tools": [{"type": "function"}]}, "tools[0].function", "required"),
        ({"messages": HI, "tools": [{"type": "custom", "custom": {}}]}, "tools[0].custom.name", "required"),
        ({"messages": HI, "response_format": {"type": "xml"}}, "response_format.type", "'text'"),
        ({"messages": HI, "functions": [{"name": "f"}]}, "functions", "use tools"),
        ({"messages": HI, "modalities": ["text", "audio"]}, "modalities", "must be ['text']"),
        ({"messages": HI, "audio": {"voice": "alloy"}}, "audio", "not supported"),
        ({"messages": HI, "web_search_options": {"x": 1}}, "web_search_options", "not supported"),
        ({"messages": HI, "web_search_options": {}}, "web_search_options", "not supported"),
        ({"messages": HI, "stream": "perhaps"}, "stream", "boolean"),
    ],
)
def test_invalid_field_is_named(server: ServerProcess, body: dict[str, Any], param: str, part: str) -> None:
    for stream in (None, True):
        asked = body if stream is None or "stream" in body else {**body, "stream": stream}
        error = error_of(post(server, asked), 400)
        assert error["type"] == "invalid_request_error"
        assert error["param"] is not None
        assert error["param"].startswith(param)
        assert part in error["message"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "body is empty; send an object"),
        (b"{", "not valid JSON"),
        (b'{"messages": [}', "not valid JSON"),
        (b'{"temperature": NaN}', "NaN"),
        (b'{"metadata": {"a": [-Infinity]}}', "-Infinity"),
        (b'{"model": "\xff\xfe"}', "Unicode"),
        (b'{"model": "\xed\xa0\x80"}', "Unicode"),
        ('{"model": "\\ud800"}'.encode("utf-16"), "Unicode"),
        (b"[" * 40_000, "too deeply"),
        (b'{"a":' * 40_000, "too deeply"),
        (b'{"messages": [' + b'{"content":[' * 20_000, "too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "has an integer with too many digits."),
        (b"[]", "not a JSON object; send an object"),
        (b"null", "not a JSON object; send an object"),
        (b'"text"', "not a JSON object; send an object"),
        (b"5", "not a JSON object; send an object"),
    ],
)
def test_body_that_is_not_a_request_is_a_400(server: ServerProcess, content: bytes, part: str) -> None:
    error = error_of(raw(server, content), 400)
    assert part in error["message"]


@pytest.mark.parametrize(("depth", "status"), [(50, 200), (90, 200), (101, 400), (900, 400), (5000, 400)])
@pytest.mark.parametrize("place", ["metadata", "tools"])
def test_nesting_depth_is_limited(server: ServerProcess, place: str, depth: int, status: int) -> None:
    deep = "[" * depth + "]" * depth
    value = f'[{{"function": {{"name": "f", "parameters": {{"a": {deep}}}}}}}]' if place == "tools" else deep
    response = raw(server, f'{{"messages": {json.dumps(HI)}, "{place}": {value}}}'.encode())
    assert response.status_code == status, response.text


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "/"])
def test_content_type_must_be_json(server: ServerProcess, kind: str | None) -> None:
    error = error_of(raw(server, json.dumps({"messages": HI}).encode(), kind), 415)
    assert "application/json" in error["message"]
    assert error["code"] == "unsupported_media_type"


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.api+json", "Application/JSON"])
def test_other_json_content_types_are_accepted(server: ServerProcess, kind: str) -> None:
    assert raw(server, json.dumps({"messages": HI}).encode(), kind).status_code == 200


def test_unknown_path(server: ServerProcess) -> None:
    for path in ("/nothing", "/v1", "/v1/nothing", "/v1/chat/completions/", "/v1/%2e%2e/etc", "/v1/%ff%fe"):
        error = error_of(get(server, path), 404)
        assert error["code"] == "not_found"


def test_wrong_method(server: ServerProcess) -> None:
    response = get(server, CHAT)
    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"
    error_of(httpx2.request("DELETE", f"{server.url}/v1/models"), 405)


def test_sdk_exceptions(client: openai.OpenAI, server: ServerProcess) -> None:
    hi: Any = HI
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="temperature") as bad:
            client.chat.completions.create(model="m", messages=hi, temperature=5, stream=stream)
        assert bad.value.param == "temperature"
        assert bad.value.request_id
    with pytest.raises(openai.NotFoundError, match="not found") as missing:
        client.models.retrieve("unknown/model")
    assert missing.value.code == "model_not_found"
    failing: Any = script(["fail", "no"])
    with pytest.raises(openai.InternalServerError, match="ZeroDivisionError"):
        client.chat.completions.create(model="m", messages=failing)


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_invalid_http_is_a_400_with_an_openai_error_body(server: ServerProcess, garbage: bytes) -> None:
    with connection(server) as bare:
        bare.sendall(garbage)
        response = read_all(bare)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert json.loads(response.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


def test_too_long_request_head_closes_the_connection(server: ServerProcess) -> None:
    def send_for_ever() -> None:
        while True:
            bare.sendall(b"x" * 70_000)

    with connection(server) as bare:
        bare.sendall(b"GET / HTTP/1.1\r\nx-filler: ")
        with pytest.raises(ConnectionError):
            send_for_ever()
    assert get(server, "/health").status_code == 200


def test_garbage_after_a_request_does_not_affect_its_response(server: ServerProcess) -> None:
    body = json.dumps({"messages": HI}).encode()
    with connection(server) as bare:
        bare.sendall(head(body) + body + b"garbage\r\n\r\n")
        response = read_all(bare)
    assert response.count(b"HTTP/1.1 ") <= 2
    assert get(server, "/health").status_code == 200


def test_paths_with_any_bytes_get_a_response(server: ServerProcess) -> None:
    for path in ("/v1/models/%00", "/v1/models/%ed%a0%80", "/v1/models/" + "x" * 5000, "/v1/models/%F0%9F%A6%8A"):
        assert error_of(get(server, path), 404)["code"] == "model_not_found"

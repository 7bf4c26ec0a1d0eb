"""POST /v1/messages with Anthropic's client and with plain HTTP."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message
from mlx_host.errors import (
    EngineDeadError,
    EngineError,
    ModelNotFoundError,
    ModelUnavailableError,
    QueueFullError,
    QueueTimeoutError,
    RequestError,
)
from mlx_host_messages.errors import error_response

from tests.support.client import get, post, script, text_script
from tests.support.server import ServerProcess, running_server

PATH = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
WEATHER: dict[str, Any] = {"name": "get_weather", "input_schema": {"type": "object"}}
BASH: dict[str, Any] = {"type": "bash_20250124", "name": "bash"}
FORMAT: dict[str, Any] = {"type": "json_schema", "schema": {"type": "object"}}


def whole(server: ServerProcess, body: dict[str, Any]) -> dict[str, Any]:
    response = post(server, {"model": "m", "max_tokens": 100, **body}, PATH)
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json()
    Message.model_validate(message, strict=True)
    return message


def streamed(server: ServerProcess, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream, each of which goes by its type."""
    response = post(server, {"model": "m", "max_tokens": 100, "stream": True, **body}, PATH)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text[:-2].split("\n\n"):
        if not block.startswith(":"):
            name, _, data = block.partition("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
    return events


def fault(response: httpx2.Response, status: int, kind: str) -> str:
    """The message of an error, its shape checked."""
    assert response.status_code == status, response.text
    assert response.headers["request-id"]
    body = response.json()
    assert set(body) == {"type", "error"}
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    assert body["error"]["type"] == kind
    message: str = body["error"]["message"]
    assert message
    return message


BODIES: list[dict[str, Any]] = [
    {"messages": text_script("Hello", ", ", "world")},
    {"messages": text_script()},
    {"messages": text_script("naïve", " 🦊"), "system": "Be brief."},
    {"messages": script(["repeat", "x"]), "max_tokens": 3},
    {"messages": script(["text", "cut"], ["finish", "length"])},
    {"messages": text_script("one", " t", "wo", " three"), "stop_sequences": ["x", "two"]},
    {"messages": text_script("<think>\n", "Hm.", "\n</think>\n\n", "Yes.")},
    {"messages": text_script("<think>\nnever closed")},
    {"messages": text_script(CALL), "tools": [WEATHER]},
    {"messages": text_script("<think>\nHm.\n</think>\n\n", "Look:", CALL, CALL), "tools": [WEATHER]},
    {
        "messages": text_script(CALL, CALL),
        "tools": [WEATHER],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    },
    {"messages": text_script(CALL), "tools": [WEATHER], "tool_choice": {"type": "none"}},
]


@pytest.mark.parametrize("body", BODIES)
def test_streamed_and_plain_messages_are_equal(
    server: ServerProcess, client: anthropic.Anthropic, body: dict[str, Any]
) -> None:
    message = whole(server, body)
    with client.messages.stream(**{"model": "m", "max_tokens": 100, **body}) as stream:
        last = stream.get_final_message()
    for key in ("content", "stop_reason", "stop_sequence", "usage"):
        added = last.to_dict()[key]
        assert _without_ids(added) == _without_ids(message[key]), key


def _without_ids(value: Any) -> Any:
    """What a message holds; the SDK adds nulls of its own, and each call has a new id."""
    if isinstance(value, dict):
        return {key: _without_ids(each) for key, each in value.items() if each is not None and key != "id"}
    return [_without_ids(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("body", BODIES)
def test_the_events_of_a_stream_are_in_anthropics_order(server: ServerProcess, body: dict[str, Any]) -> None:
    start, *middle, delta, stop = streamed(server, body)
    assert start["type"] == "message_start"
    assert (start["message"]["content"], start["message"]["stop_reason"]) == ([], None)
    assert (delta["type"], stop) == ("message_delta", {"type": "message_stop"})
    assert delta["delta"]["stop_reason"] is not None
    index = -1
    open_block = False
    for event in middle:
        if event["type"] == "content_block_start":
            assert not open_block
            index, open_block = index + 1, True
        else:
            assert open_block
            open_block = event["type"] != "content_block_stop"
        assert event["index"] == index
    assert index >= 0
    assert not open_block


@pytest.mark.parametrize(
    ("body", "reason", "stop"),
    [
        (BODIES[0], "end_turn", None),
        (BODIES[3], "max_tokens", None),
        (BODIES[4], "model_context_window_exceeded", None),
        (BODIES[5], "stop_sequence", "two"),
        (BODIES[8], "tool_use", None),
        (BODIES[10], "tool_use", None),
        (BODIES[11], "end_turn", None),
    ],
)
def test_the_stop_reason_is_accurate(
    server: ServerProcess, body: dict[str, Any], reason: str, stop: str | None
) -> None:
    message = whole(server, body)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, stop)


def test_blocks_have_types(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**{"model": "m", "max_tokens": 100, **BODIES[9]})
    thinking, text, call, other = message.content
    assert (thinking.type, text.type, call.type, other.type) == ("thinking", "text", "tool_use", "tool_use")
    assert thinking.type == "thinking"
    assert thinking.thinking == "Hm."
    assert call.type == other.type == "tool_use"
    assert call.input == {"city": "Oslo"}
    assert call.id != other.id
    assert message.usage.output_tokens == 4
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 1


def test_a_message_can_be_sent_back(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**{"model": "m", "max_tokens": 100, **BODIES[9]})
    calls = [block for block in message.content if block.type == "tool_use"]
    results: list[Any] = [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"} for call in calls]
    history: list[Any] = [*BODIES[9]["messages"], message.to_param(), {"role": "user", "content": results}]
    history.append({"role": "user", "content": text_script("It rains.")[0]["content"]})
    again = client.messages.create(model="m", max_tokens=9, messages=history, tools=[WEATHER])  # type: ignore[list-item]
    assert again.content[0].type == "text"
    assert again.content[0].text == "It rains."


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "k"}, {"authorization": "Bearer k"}])
def test_any_key_or_none_is_accepted(server: ServerProcess, headers: dict[str, str]) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": text_script("a")}
    response = post(server, body, f"{PATH}?beta=true", headers={"anthropic-version": "2023-06-01", **headers})
    assert response.json()["content"] == [{"type": "text", "text": "a"}]


def test_tokens_can_be_counted(client: anthropic.Anthropic) -> None:
    messages: Any = text_script("a", "b", "c")
    count = client.messages.count_tokens(model="m", messages=messages).input_tokens
    assert count == client.messages.create(model="m", max_tokens=9, messages=messages).usage.input_tokens == 3


def test_fields_without_effect_are_listed(server: ServerProcess) -> None:
    tools = [WEATHER, {"type": "bash_20250124", "name": "bash"}, {"type": "web_search_20250305", "name": "web_search"}]
    body = {
        "max_tokens": 2000,
        "messages": text_script("a"),
        "tools": tools,
        "metadata": {"user_id": "u"},
        "container": None,
    }
    response = post(server, {**body, "thinking": {"type": "enabled", "budget_tokens": 1024}}, PATH)
    named = "metadata, thinking.budget_tokens, tools.bash_20250124, tools.web_search_20250305"
    assert response.headers["x-mlx-host-ignored"] == named


USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": "The"}]}, "the last one is the assistant's"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages.0.content.0 is of type 'smell'"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0.source"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, "content.0.source"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}, USER]}, "input"),
        ({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}, USER]}, "'server_tool_use'"),
        ({"system": [{"type": "image"}]}, "system.0 is of type 'image'"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ({"tools": [{"name": "f", "input_schema": {}, "type": 3}]}, "tools.0.type"),
        ({"tool_choice": {"type": "any"}}, "has no tools"),
        ({"tool_choice": {"type": "any"}, "tools": [BASH]}, "has no tools"),
        ({"tool_choice": {"type": "any"}, "tools": [WEATHER]}, "does not support tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "f"}, "tools": [WEATHER]}, "'f'; tools defines 'get_weather'"),
        ({"tool_choice": {"type": "tool"}, "tools": [WEATHER]}, "requires the name"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}, "tools": [WEATHER], "thinking": {"type": "enabled"}}, "thinking"),
        ({"thinking": {"type": "perhaps"}}, "thinking"),
        ({"output_config": {"format": FORMAT}}, "does not support output_config.format.schema"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_config": {"format": {"type": "json_object"}}}, "'json_schema'"),
        ({"output_format": FORMAT}, "does not support output_format.schema"),
        ({"output_format": FORMAT, "output_config": {"format": FORMAT}}, "cannot both be given"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"temperature": 3}, "temperature"),
        ({"messages": script(["reject", "I refuse."])}, "I refuse."),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_unsupported_fields_are_rejected(
    server: ServerProcess, change: dict[str, Any], part: str, stream: bool
) -> None:
    body = {"model": "m", "max_tokens": 10, "messages": [USER], "stream": stream, **change}
    assert part in fault(post(server, body, PATH), 400, "invalid_request_error")


def test_errors_have_anthropics_format(server: ServerProcess) -> None:
    fine = {"model": "m", "max_tokens": 5}
    assert "batches" in fault(post(server, {}, f"{PATH}/batches"), 404, "not_found_error")
    fault(get(server, PATH), 405, "invalid_request_error")
    fault(httpx2.post(f"{server.url}{PATH}", content=b"{", headers={"content-type": "application/json"}), 400, BAD)
    fault(httpx2.post(f"{server.url}{PATH}", content=b"{}", headers={"content-type": "text/plain"}), 415, BAD)
    large = {**fine, "messages": [{"role": "user", "content": "x" * 1_000_001}]}
    for path in (PATH, COUNT):
        assert "1 MB" in fault(post(server, large, path), 413, "request_too_large")
    failing = {**fine, "messages": script(["fail", "boom"])}
    assert "boom" in fault(post(server, {**failing, "stream": False}, PATH), 500, "api_error")


BAD = "invalid_request_error"


def test_the_endpoints_are_in_the_openapi_document(server: ServerProcess) -> None:
    paths = get(server, "/openapi.json").json()["paths"]
    for path in (PATH, COUNT):
        assert set(paths[path]) == {"post"}
        assert "application/json" in paths[path]["post"]["requestBody"]["content"]


def test_errors_of_other_apis_have_openais_format(server: ServerProcess) -> None:
    for path in ("/v1/message", "/v1/messagesx", "/v1/chat/completions"):
        assert set(post(server, {}, path).json()["error"]) == {"message", "type", "param", "code"}


def test_the_last_event_of_a_failed_stream_is_an_error(server: ServerProcess, client: anthropic.Anthropic) -> None:
    body: dict[str, Any] = {"messages": script(["text", "a"], ["fail", "boom"])}
    *_, last = streamed(server, body)
    assert last["error"]["type"] == "api_error"
    with (
        pytest.raises(anthropic.APIStatusError, match="boom"),
        client.messages.stream(model="m", max_tokens=9, **body) as stream,
    ):
        stream.until_done()


def test_queue_errors_have_anthropics_format() -> None:
    options = ("--slots", "1", "--queue-size", "0", "--queue-timeout", "30")
    with (
        running_server("--backend", "scripted", *options) as server,
        anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as client,
    ):
        forever: Any = script(["repeat", "x"])
        with client.messages.stream(model="m", max_tokens=10**9, messages=forever) as stream:
            next(iter(stream))
            with pytest.raises(anthropic.RateLimitError) as refusal:
                client.messages.create(model="m", max_tokens=5, messages=forever)
        assert refusal.value.response.headers["retry-after"]
        assert refusal.value.type == "rate_limit_error"


def test_a_single_model_accepts_any_name(server: ServerProcess) -> None:
    assert whole(server, {"model": "claude-opus", "messages": text_script("a")})["model"] == "scripted"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ModelNotFoundError("no"), 404, "not_found_error"),
        (QueueFullError("full", retry_after=1.5), 429, "rate_limit_error"),
        (EngineError("no"), 500, "api_error"),
        (EngineDeadError("no"), 500, "api_error"),
        (ModelUnavailableError("no"), 503, "overloaded_error"),
        (QueueTimeoutError("late"), 504, "timeout_error"),
    ],
)
def test_error_types_depend_on_the_status(error: RequestError, status: int, kind: str) -> None:
    rejection = error_response(error)
    assert rejection.status_code == status
    assert json.loads(bytes(rejection.body)) == {"type": "error", "error": {"type": kind, "message": error.message}}
    assert rejection.headers.get("retry-after") == ("2" if error.retry_after else None)
    assert rejection.headers.get("x-should-retry") == (None if error.retryable else "false")

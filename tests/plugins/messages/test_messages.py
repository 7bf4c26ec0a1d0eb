"""POST /v1/messages with the Anthropic SDK and with plain HTTP."""

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


def create_message(server: ServerProcess, body: dict[str, Any]) -> dict[str, Any]:
    response = post(server, {"model": "m", "max_tokens": 100, **body}, PATH)
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json()
    Message.model_validate(message, strict=True)
    return message


def stream_events(server: ServerProcess, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of a stream; checks that the name of each is its type."""
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


def error_message(response: httpx2.Response, status: int, error_type: str) -> str:
    """Return the message of an error response; checks its format, status and type."""
    assert response.status_code == status, response.text
    assert response.headers["request-id"]
    body = response.json()
    assert set(body) == {"type", "error"}
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    assert body["error"]["type"] == error_type
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
def test_streaming_returns_the_same_message(
    server: ServerProcess, client: anthropic.Anthropic, body: dict[str, Any]
) -> None:
    message = create_message(server, body)
    with client.messages.stream(**{"model": "m", "max_tokens": 100, **body}) as stream:
        final = stream.get_final_message().to_dict()
    for key in ("content", "stop_reason", "stop_sequence", "usage"):
        assert _without_ids_and_nulls(final[key]) == _without_ids_and_nulls(message[key]), key


def _without_ids_and_nulls(value: Any) -> Any:
    """Remove ids, which differ between requests, and nulls, which the SDK adds."""
    if isinstance(value, dict):
        return {k: _without_ids_and_nulls(v) for k, v in value.items() if v is not None and k != "id"}
    return [_without_ids_and_nulls(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("body", BODIES)
def test_stream_events_have_the_order_of_anthropic(server: ServerProcess, body: dict[str, Any]) -> None:
    start, *middle, delta, stop = stream_events(server, body)
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
    message = create_message(server, body)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, stop)


def test_the_sdk_parses_the_block_types(client: anthropic.Anthropic) -> None:
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


def test_a_message_can_be_returned_in_the_next_request(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**{"model": "m", "max_tokens": 100, **BODIES[9]})
    calls = [block for block in message.content if block.type == "tool_use"]
    results: list[Any] = [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"} for call in calls]
    history: list[Any] = [*BODIES[9]["messages"], message.to_param(), {"role": "user", "content": results}]
    history.append({"role": "user", "content": text_script("It rains.")[0]["content"]})
    response = client.messages.create(model="m", max_tokens=9, messages=history, tools=[WEATHER])  # type: ignore[list-item]
    assert response.content[0].type == "text"
    assert response.content[0].text == "It rains."


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "k"}, {"authorization": "Bearer k"}])
def test_api_keys_are_optional_and_not_checked(server: ServerProcess, headers: dict[str, str]) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": text_script("a")}
    response = post(server, body, f"{PATH}?beta=true", headers={"anthropic-version": "2023-06-01", **headers})
    assert response.json()["content"] == [{"type": "text", "text": "a"}]


def test_count_tokens_returns_the_prompt_tokens_of_the_message(client: anthropic.Anthropic) -> None:
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
        "stop_sequences": ["", "x"],
    }
    response = post(server, {**body, "thinking": {"type": "enabled", "budget_tokens": 1024}}, PATH)
    ignored = "metadata, stop_sequences, thinking.budget_tokens, tools.web_search_20250305"
    assert response.headers["x-mlx-host-ignored"] == ignored


USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0.source"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, "content.0.source"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        ({"system": [{"type": "text"}]}, "system.0.text"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ({"tools": [{"name": "f", "input_schema": {}, "type": 3}]}, "tools.0.type"),
        ({"tool_choice": {"type": "any"}}, "has no tools"),
        ({"tool_choice": {"type": "any"}, "tools": [BASH]}, "does not support tool_choice"),
        ({"tool_choice": {"type": "any"}, "tools": [{"type": "acme_20300101"}]}, "has no tools"),
        ({"compaction": {"type": "summarize"}}, "compaction"),
        ({"thread": {"type": "continue"}}, "previous_message_id"),
        ({"thread": {"type": "continue", "previous_message_id": "msg_1"}, "system": "x"}, "system"),
        ({"tool_choice": {"type": "any"}, "tools": [WEATHER]}, "does not support tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "f"}, "tools": [WEATHER]}, "'f'"),
        ({"tool_choice": {"type": "tool"}, "tools": [WEATHER]}, "requires the name"),
        ({"tool_choice": {"type": "sometimes"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}, "tools": [WEATHER], "thinking": {"type": "enabled"}}, "thinking"),
        ({"thinking": {"type": "perhaps"}}, "thinking"),
        ({"output_config": {"format": FORMAT}}, "does not support output_config.format.schema"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_config": {"format": {"type": "json_object"}}}, "'json_schema'"),
        ({"output_format": FORMAT}, "does not support output_format.schema"),
        ({"output_format": FORMAT, "output_config": {"format": FORMAT}}, "cannot both be set"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"stop_sequences": ["x" * 1001]}, "stop_sequences"),
        ({"temperature": 3}, "temperature"),
        ({"messages": script(["reject", "I reject it."])}, "I reject it."),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_unsupported_fields_are_rejected(
    server: ServerProcess, change: dict[str, Any], expected: str, stream: bool
) -> None:
    body = {"model": "m", "max_tokens": 10, "messages": [USER], "stream": stream, **change}
    assert expected in error_message(post(server, body, PATH), 400, "invalid_request_error")


def test_errors_have_the_format_of_anthropic(server: ServerProcess) -> None:
    valid = {"model": "m", "max_tokens": 5}
    assert "batches" in error_message(post(server, {}, f"{PATH}/batches"), 404, "not_found_error")
    error_message(get(server, PATH), 405, "invalid_request_error")
    error_message(
        httpx2.post(f"{server.url}{PATH}", content=b"{", headers={"content-type": "application/json"}), 400, BAD
    )
    error_message(httpx2.post(f"{server.url}{PATH}", content=b"{}", headers={"content-type": "text/plain"}), 415, BAD)
    large = {**valid, "messages": [{"role": "user", "content": "x" * 1_000_001}]}
    for path in (PATH, COUNT):
        assert "1 MB" in error_message(post(server, large, path), 413, "request_too_large")
    failing = {**valid, "messages": script(["fail", "boom"])}
    assert "boom" in error_message(post(server, {**failing, "stream": False}, PATH), 500, "api_error")


BAD = "invalid_request_error"


def test_the_endpoints_are_in_the_openapi_document(server: ServerProcess) -> None:
    paths = get(server, "/openapi.json").json()["paths"]
    for path in (PATH, COUNT):
        assert set(paths[path]) == {"post"}
        assert "application/json" in paths[path]["post"]["requestBody"]["content"]


def test_errors_of_other_apis_have_the_format_of_openai(server: ServerProcess) -> None:
    for path in ("/v1/message", "/v1/messagesx", "/v1/chat/completions"):
        assert set(post(server, {}, path).json()["error"]) == {"message", "type", "param", "code"}


def test_the_last_event_of_a_failed_stream_is_an_error(server: ServerProcess, client: anthropic.Anthropic) -> None:
    body: dict[str, Any] = {"messages": script(["text", "a"], ["fail", "boom"])}
    *_, last = stream_events(server, body)
    assert last["error"]["type"] == "api_error"
    with (
        pytest.raises(anthropic.APIStatusError, match="boom"),
        client.messages.stream(model="m", max_tokens=9, **body) as stream,
    ):
        stream.until_done()


def test_queue_errors_have_the_format_of_anthropic() -> None:
    options = ("--slots", "1", "--queue-size", "0", "--queue-timeout", "30")
    with (
        running_server("--backend", "scripted", *options) as server,
        anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as client,
    ):
        forever: Any = script(["repeat", "x"])
        with client.messages.stream(model="m", max_tokens=10**9, messages=forever) as stream:
            next(iter(stream))
            with pytest.raises(anthropic.RateLimitError) as error:
                client.messages.create(model="m", max_tokens=5, messages=forever)
        assert error.value.response.headers["retry-after"]
        assert error.value.type == "rate_limit_error"


def test_a_single_model_accepts_any_name(server: ServerProcess) -> None:
    assert create_message(server, {"model": "claude-opus", "messages": text_script("a")})["model"] == "scripted"


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (ModelNotFoundError("no"), 404, "not_found_error"),
        (QueueFullError("full", retry_after=1.5), 429, "rate_limit_error"),
        (EngineError("no"), 500, "api_error"),
        (EngineDeadError("no"), 500, "api_error"),
        (ModelUnavailableError("no"), 503, "overloaded_error"),
        (QueueTimeoutError("late"), 504, "timeout_error"),
    ],
)
def test_error_types_depend_on_the_status(error: RequestError, status: int, error_type: str) -> None:
    response = error_response(error)
    assert response.status_code == status
    body = json.loads(bytes(response.body))
    assert body == {"type": "error", "error": {"type": error_type, "message": error.message}}
    assert response.headers.get("retry-after") == ("2" if error.retry_after else None)
    assert response.headers.get("x-should-retry") == (None if error.retryable else "false")


def test_removed_lines_of_the_system_prompt_are_listed(server: ServerProcess) -> None:
    body = {"messages": text_script("a"), "max_tokens": 5}
    header = {"type": "text", "text": "x-anthropic-billing-header: cch=1;"}
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        removed = post(server, {**body, "system": [header, {"type": "text", "text": "Be brief."}]}, path)
        assert "system.changing_lines" in removed.headers["x-mlx-host-ignored"]
        kept = post(server, {**body, "system": "Report as follows:\nToken usage: 5/10\nBe brief."}, path)
        assert "system" not in kept.headers.get("x-mlx-host-ignored", "")

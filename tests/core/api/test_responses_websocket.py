"""Responses over WebSocket: continued conversations, errors, origins, limits, and the end of a connection."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from mlx_host._apis.responses.websocket import ResponsesConnection
from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.core.api.open_responses import ERROR, check_events, check_fields
from tests.core.api.test_open_responses import turn
from tests.core.api.test_responses import RESPONSES, script, text_script
from tests.support.client import eventually, get, wait_for_queue
from tests.support.server import ServerProcess, running_server

EVENT: TypeAdapter[Any] = TypeAdapter(ResponsesServerEvent)
HI = text_script("Hi")


def address(server: ServerProcess, path: str = RESPONSES) -> str:
    return server.url.replace("http", "ws") + path


@contextmanager
def connected(server: ServerProcess) -> Iterator[ClientConnection]:
    with connect(address(server)) as socket:
        yield socket


def response_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    check_events(events)
    for event in events:
        EVENT.validate_python(event)
    return dict(events[-1]["response"])


def error_in(events: list[dict[str, Any]]) -> dict[str, Any]:
    (event,) = events
    assert event["type"] == "error"
    EVENT.validate_python(event)
    check_fields(event["error"], ERROR, "error")
    return {**event["error"], "status": event["status"]}


# The SDK itself uses the deprecated form.
@pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")
def test_the_sdk_connects(client: openai.OpenAI) -> None:
    with client.responses.connect() as connection:
        connection.response.create(model="m", input=HI)
        events = []
        for event in connection:
            events.append(event.type)
            if event.type == "response.completed":
                break
    assert events[0] == "response.created"


def test_a_conversation_continues_without_being_stored(server: ServerProcess) -> None:
    with connected(server) as socket:
        first = response_of(turn(socket, input=HI, store=False))
        second = response_of(turn(socket, input=HI, store=False, previous_response_id=first["id"]))
        third = response_of(turn(socket, input=HI, store=False, previous_response_id=second["id"]))
        assert third["previous_response_id"] == second["id"]
        # Only the last response is kept.
        assert (
            error_in(turn(socket, input=HI, previous_response_id=first["id"]))["code"] == "previous_response_not_found"
        )
    with connected(server) as socket:
        error = error_in(turn(socket, input=HI, previous_response_id=third["id"]))
        assert (error["code"], error["status"], error["param"]) == (
            "previous_response_not_found",
            400,
            "previous_response_id",
        )
        # The connection remains usable, and stored responses are found from any connection.
        stored = response_of(turn(socket, input=HI))
    with connected(server) as socket:
        response_of(turn(socket, input=HI, previous_response_id=stored["id"]))


@pytest.mark.parametrize(
    "failing",
    [
        {"input": [{"type": "function_call_output", "call_id": "call_0", "output": "x"}]},
        {"input": HI, "temperature": 5},
        {"input": script(["fail", "oh"])},
    ],
    ids=["orphan", "invalid", "failed"],
)
def test_a_failed_turn_forgets_the_response(server: ServerProcess, failing: dict[str, Any]) -> None:
    with connected(server) as socket:
        first = response_of(turn(socket, input=HI, store=False))
        last = turn(socket, **failing, store=False, previous_response_id=first["id"])[-1]
        assert last["type"] in ("error", "response.failed")
        again = turn(socket, input=HI, store=False, previous_response_id=first["id"])
        assert error_in(again)["code"] == "previous_response_not_found"


@pytest.mark.parametrize(
    ("frame", "param"),
    [
        ("{", None),
        ("[]", None),
        (b"\x00\x01", None),
        ('{"input": "x"}', "type"),
        ('{"type": "response.steer"}', "type"),
        ('{"type": "response.create", "input": 5}', "input"),
        ('{"type": "response.create", "input": "x", "background": true}', "background"),
    ],
)
def test_invalid_frames_are_errors(server: ServerProcess, frame: str | bytes, param: str | None) -> None:
    with connected(server) as socket:
        socket.send(frame)
        error = error_in([json.loads(socket.recv(timeout=60))])
        assert (error["status"], error["param"]) == (400, param)
        response_of(turn(socket, input=HI))


def test_fields_of_the_transport(server: ServerProcess) -> None:
    with connected(server) as socket:
        events = turn(socket, input=HI, stream=False, stream_id="lane")
        assert {event["stream_id"] for event in events} == {"lane"}
        assert turn(socket, input=5, stream_id="lane")[0]["stream_id"] == "lane"
        prepared = response_of(turn(socket, input="Be brief.", generate=False, store=False))
        assert (prepared["status"], prepared["output"]) == ("completed", [])
        response_of(turn(socket, input=HI, store=False, previous_response_id=prepared["id"]))


def test_compacted_input_begins_a_new_conversation(server: ServerProcess, client: openai.OpenAI) -> None:
    compacted: Any = client.responses.compact(model="m", input="We meet on Tuesday.")
    output = [item.to_dict() for item in compacted.output]
    with connected(server) as socket:
        first = response_of(turn(socket, input=[*output, {"role": "user", "content": HI}], store=False))
        response_of(turn(socket, input=HI, store=False, previous_response_id=first["id"]))


@pytest.mark.parametrize("origin", ["https://evil.invalid", "null"])
def test_web_pages_of_other_origins_are_rejected(server: ServerProcess, origin: str) -> None:
    with pytest.raises(InvalidStatus) as rejected:
        connect(address(server), additional_headers={"Origin": origin})
    assert rejected.value.response.status_code == 403
    assert json.loads(rejected.value.response.body)["error"]["code"] == "forbidden_origin"
    with connect(address(server), additional_headers={"Origin": server.url}) as socket:
        response_of(turn(socket, input=HI))


def test_other_paths_have_no_websocket(server: ServerProcess) -> None:
    with pytest.raises(InvalidStatus) as rejected:
        connect(address(server, "/v1/models"))
    assert rejected.value.response.status_code == 404
    assert json.loads(rejected.value.response.body)["error"]["code"] == "not_found"


def test_frames_are_limited_like_bodies(server: ServerProcess) -> None:
    with connected(server) as socket:
        socket.send(json.dumps([[]] * 60_000))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_frames_are_processed_in_order(server: ServerProcess) -> None:
    with connected(server) as socket:
        for number in range(5):
            socket.send(json.dumps({"type": "response.create", "input": text_script(f"{number}")}))
        texts: list[str] = []
        while len(texts) < 5:
            event = json.loads(socket.recv(timeout=60))
            if event["type"] == "response.completed":
                texts.append(event["response"]["output"][0]["content"][0]["text"])
        assert texts == ["0", "1", "2", "3", "4"]


def test_a_client_that_disconnects_ends_the_generation(server: ServerProcess, tmp_path: Path) -> None:
    with connected(server) as socket:
        steps = script(["text", "He"], ["until", str(tmp_path / "never")])
        socket.send(json.dumps({"type": "response.create", "input": steps}))
        while json.loads(socket.recv(timeout=60))["type"] != "response.output_text.delta":
            pass
    wait_for_queue(server, running=0)


def test_a_shutdown_lets_the_response_finish(tmp_path: Path) -> None:
    with running_server("--backend", "scripted") as server, connected(server) as socket, connected(server) as idle:
        steps = script(["text", "He"], ["until", str(tmp_path / "go")], ["text", "llo"])
        socket.send(json.dumps({"type": "response.create", "input": steps}))
        while json.loads(socket.recv(timeout=60))["type"] != "response.output_text.delta":
            pass
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line("shutting down")
        with pytest.raises(ConnectionClosed) as closed:
            idle.recv(timeout=60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        (tmp_path / "go").touch()
        event: dict[str, Any] = {}
        while event.get("type") != "response.completed":
            event = json.loads(socket.recv(timeout=60))
        assert event["response"]["output"][0]["content"][0]["text"] == "Hello"
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=60)


def test_requests_and_replies_are_logged(server: ServerProcess) -> None:
    with connected(server) as socket:
        id = response_of(turn(socket, input=HI))["id"]
        eventually(lambda: any("WS /v1/responses" in line and id in line for line in server.lines))
        assert get(server, f"{RESPONSES}/{id}").status_code == 200


def test_a_connection_has_a_time_limit() -> None:
    sent: list[Any] = []

    async def main() -> None:
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        arrived.put_nowait({"type": "websocket.connect"})

        async def send(message: Any) -> None:
            sent.append(message)

        socket = WebSocket({"type": "websocket", "headers": [], "path": RESPONSES}, arrived.get, send)
        unused: Any = None
        await ResponsesConnection(socket, unused, unused, unused, max_seconds=0).serve()

    asyncio.run(main())
    accepted, error, closed = sent
    assert (accepted["type"], closed["type"]) == ("websocket.accept", "websocket.close")
    assert json.loads(error["text"])["error"]["code"] == "websocket_connection_limit_reached"

"""Objects and events conform to Open Responses, over HTTP and over WebSocket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest
from mlx_host._apis.responses.response_object import new_response
from mlx_host._apis.responses.schema import ResponsesBody
from mlx_host.api import ModelState, ModelStatus
from mlx_host.backend import Capabilities
from openai.types.responses import Response
from websockets.sync.client import ClientConnection, connect

from tests.core.api.open_responses import COMPACTION, ERROR, check_events, check_fields, check_item, check_response
from tests.core.api.test_chat import OSLO, ROME, cut
from tests.core.api.test_responses import RESPONSES, TOOL, named_events, script, text_script
from tests.support.client import error_of, get, post
from tests.support.server import ServerProcess

CUSTOM = '<tool_call>\n{"name": "patch", "arguments": {"input": "a\\nb"}}\n</tool_call>'
SEARCH = '<tool_call>\n{"name": "tool_search", "arguments": {"query": "mail"}}\n</tool_call>'
IMAGE = "data:image/png;base64,AAAA"


def user(content: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": content}


def assistant(text: str, phase: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "phase": phase, "content": text}


HI = text_script("Hi", ".")
# The published cases, and others.
CASES: dict[str, dict[str, Any]] = {
    "basic": {"input": [user(HI)]},
    "string": {"input": HI},
    "phases": {"input": [assistant("I look.", "commentary"), assistant("Seven.", "final_answer"), user(HI)]},
    "system": {"input": [{"type": "message", "role": "system", "content": "Be brief."}, user(HI)]},
    "several turns": {"input": [user("I am Kim."), {"role": "assistant", "content": "Hello."}, user(HI)]},
    "image": {"input": [user([{"type": "input_image", "image_url": IMAGE}]), user(HI)]},
    "call": {"input": script(*cut(OSLO)), "tools": [TOOL]},
    "calls": {"input": script(*cut(f"<think>\nHm.\n</think>\n\nLook:\n{OSLO}\n{ROME}")), "tools": [TOOL]},
    "custom call": {"input": script(*cut(CUSTOM)), "tools": [{"type": "custom", "name": "patch"}]},
    "search": {"input": script(*cut(SEARCH)), "tools": [{"type": "tool_search", "execution": "client"}]},
    "encrypted": {"input": script(*cut("<think>\nHm.\n</think>\n\nYes.")), "include": ["reasoning.encrypted_content"]},
    "cut": {"input": script(["text", "cut"], ["finish", "length"])},
    "no output": {"input": text_script()},
    "logprobs": {"input": HI, "include": ["message.output_text.logprobs"], "top_logprobs": 2},
    "verbosity": {"input": HI, "text": {"verbosity": "low"}},
    "fails": {"input": script(["text", "He"], ["fail", "oh"])},
    "not stored": {"input": HI, "store": False},
}


@pytest.fixture(scope="module")
def socket(server: ServerProcess) -> Iterator[ClientConnection]:
    with connect(server.url.replace("http", "ws") + RESPONSES) as connected:
        yield connected


def turn(socket: ClientConnection, **body: Any) -> list[dict[str, Any]]:
    """The events of one response, or an error."""
    socket.send(json.dumps({"type": "response.create", **body}))
    events = []
    while True:
        events.append(json.loads(socket.recv(timeout=60)))
        if "response" in events[-1] and events[-1]["type"] not in ("response.created", "response.in_progress"):
            return events
        if events[-1]["type"] == "error":
            return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types of events; how many deltas a text has depends on its timing."""
    return [kind for kind, _ in groupby(event["type"] for event in events)]


@pytest.mark.parametrize("body", CASES.values(), ids=CASES.keys())
def test_responses_conform(server: ServerProcess, socket: ClientConnection, body: dict[str, Any]) -> None:
    streamed = named_events(post(server, {**body, "stream": True}, RESPONSES).text)
    check_events(streamed)
    Response.model_validate(streamed[-1]["response"], strict=True)
    over_websocket = turn(socket, model="scripted", **body)
    check_events(over_websocket)
    assert kinds(over_websocket) == kinds(streamed)
    response = post(server, body, RESPONSES)
    if streamed[-1]["type"] == "response.failed":
        assert streamed[-1]["response"]["usage"]["output_tokens"] == 1
        check_fields(response.json()["error"], ERROR, "error")
        return
    check_response(response.json())
    Response.model_validate(response.json(), strict=True)
    if body.get("store") is not False:
        check_response(get(server, f"{RESPONSES}/{response.json()['id']}").json())


def test_the_effective_values_are_returned(server: ServerProcess) -> None:
    response = post(server, {"input": HI}, RESPONSES).json()
    defaults = {"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert {name: response[name] for name in defaults} == defaults
    assert response["service_tier"] == "default"


def test_a_schema_is_returned_with_its_defaults() -> None:
    format = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    body = ResponsesBody.model_validate({"input": "x", "text": {"format": format}, "top_p": 0.5})
    info = Capabilities(sampling_defaults={"temperature": 0.7, "top_p": 0.8})
    response = new_response(body, "resp_1", ModelStatus("m", ModelState.READY, capabilities=info))
    check_response(response)
    assert response["text"]["format"] == {**format, "description": None, "strict": False}
    assert (response["temperature"], response["top_p"]) == (0.7, 0.5)


def test_fields_without_effect_on_a_compaction_are_listed(server: ServerProcess) -> None:
    for length in (10, 4000):
        body = {"model": "scripted", "input": "x" * length, "tools": [TOOL], "tool_choice": "auto", "zzz": 1}
        response = post(server, body, f"{RESPONSES}/compact")
        assert response.status_code == 200
        assert response.headers["x-mlx-host-ignored"] == "tool_choice, tools, zzz"
    error = error_of(post(server, {"input": "x"}, f"{RESPONSES}/compact"), 400)
    assert error["param"] == "model"
    assert error_of(post(server, {"model": "m", "input": []}, f"{RESPONSES}/compact"), 400)["param"] == "input"


@pytest.mark.parametrize("length", [10, 4000], ids=["verbatim", "summary"])
def test_compactions_conform(server: ServerProcess, length: int) -> None:
    body = {"model": "scripted", "prompt_cache_key": "k", "input": [user("We meet on Tuesday. " + "x" * length)]}
    compacted = post(server, body, f"{RESPONSES}/compact").json()
    check_fields(compacted, COMPACTION, "compaction")
    for item in compacted["output"]:
        assert item["type"] == "compaction"
        check_item(item, "compaction.output[]")
    response = post(server, {"input": [*compacted["output"], user(HI)]}, RESPONSES)
    assert "x-mlx-host-ignored" not in response.headers
    check_response(response.json())

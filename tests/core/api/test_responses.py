"""POST /v1/responses, plain and streamed, with OpenAI's client and with plain HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from mlx_host._apis.responses.schema import ResponsesBody
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.core.api.test_chat import OSLO, ROME, WEATHER, cut
from tests.support.client import connection, error_of, eventually, get, head, post, read_until, wait_for_queue
from tests.support.server import ServerProcess

RESPONSES = "/v1/responses"
TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
STATUS = {"stop": "completed", "tool_calls": "completed", "length": "incomplete"}


def script(*steps: list[Any]) -> str:
    return json.dumps(steps)


def text_script(*pieces: str) -> str:
    return script(*(["text", piece] for piece in pieces))


def named_events(text: str) -> list[dict[str, Any]]:
    """The events of a stream, after checking their names and sequence numbers."""
    assert text.endswith("\n\n")
    blocks = [block.split("\n") for block in text[:-2].split("\n\n") if not block.startswith(":")]
    events = []
    for number, (name, data) in enumerate(blocks):
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        EVENT.validate_python(event)
        events.append(event)
    return events


def grown(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Build the response from a stream's events, checking every rule of their order."""
    first, second, *middle, last = events
    assert [first["type"], second["type"]] == ["response.created", "response.in_progress"]
    for event in (first, second):
        assert event["response"]["status"] == "in_progress"
        assert event["response"]["output"] == []
        assert event["response"]["usage"] is None
    output: list[dict[str, Any]] = []
    while middle:
        added = middle.pop(0)
        assert added["type"] == "response.output_item.added"
        assert added["output_index"] == len(output)
        assert added["item"]["status"] == "in_progress"
        whole = _item(added["item"], len(output), middle)
        done = middle.pop(0)
        assert done["type"] == "response.output_item.done"
        assert done["output_index"] == len(output)
        assert done["item"] == {**whole, "status": done["item"]["status"]}
        output.append(done["item"])
    assert last["type"] == f"response.{last['response']['status']}"
    assert last["response"]["id"] == first["response"]["id"]
    assert last["response"]["output"] == output
    return dict(last["response"])


def _item(item: dict[str, Any], index: int, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the deltas of one item."""
    if item["type"] == "function_call":
        assert item["arguments"] == ""
        arguments = ""
        while events[0]["type"] == "response.function_call_arguments.delta":
            assert (events[0]["item_id"], events[0]["output_index"]) == (item["id"], index)
            arguments += events.pop(0)["delta"]
        done = events.pop(0)
        assert done["type"] == "response.function_call_arguments.done"
        assert (done["arguments"], done["name"]) == (arguments, item["name"])
        return {**item, "arguments": arguments}
    kind, event = {"message": ("output_text", "output_text"), "reasoning": ("reasoning_text", "reasoning_text")}[
        item["type"]
    ]
    assert item["content"] == []
    added = events.pop(0)
    assert added["type"] == "response.content_part.added"
    assert added["part"]["text"] == ""
    text, logprobs = "", []
    while events[0]["type"] == f"response.{event}.delta":
        delta = events.pop(0)
        assert (delta["item_id"], delta["output_index"], delta["content_index"]) == (item["id"], index, 0)
        text += delta["delta"]
        logprobs += delta.get("logprobs", [])
    done = events.pop(0)
    assert (done["type"], done["text"], done.get("logprobs", [])) == (f"response.{event}.done", text, logprobs)
    done = events.pop(0)
    assert (done["type"], done["part"]["type"], done["part"]["text"]) == ("response.content_part.done", kind, text)
    assert done["part"].get("logprobs", []) == logprobs
    return {**item, "content": [done["part"]]}


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    prefixes = {"message": "msg_", "function_call": "fc_", "reasoning": "rs_"}
    output = []
    for item in response["output"]:
        assert item["id"].startswith(prefixes[item["type"]])
        if item["type"] == "function_call":
            assert item["call_id"].startswith("call_")
        output.append({key: value for key, value in item.items() if key not in ("id", "call_id")})
    assert response["id"].startswith("resp_")
    varies = ("id", "created_at", "completed_at")
    return {key: value for key, value in response.items() if key not in varies} | {"output": output}


CASES: list[dict[str, Any]] = [
    {"input": text_script("Hello", ", ", "world")},
    {"input": text_script()},
    {"input": text_script("naïve", " 🦊", " 日本")},
    {"input": script(["text", "cut"], ["finish", "length"])},
    {"input": script(["repeat", "x"]), "max_output_tokens": 7},
    {"input": text_script("one", " t", "wo", " three"), "stop": " two"},
    {"input": script(*cut("<think>\nHm.\n</think>\n\nYes."))},
    {"input": script(*cut("<think>\nnever closed"))},
    {"input": script(*cut("<think>\nnever closed"), ["finish", "length"])},
    {"input": script(*cut(OSLO)), "tools": [TOOL]},
    {"input": script(*cut(f"<think>\nHm.\n</think>\n\nLook:\n{OSLO}\n{ROME}")), "tools": [TOOL]},
    {"input": script(*cut(f"{OSLO}\n{ROME}")), "tools": [TOOL], "parallel_tool_calls": False},
    {"input": script(*cut(OSLO)), "tools": [TOOL], "tool_choice": "none"},
    {"input": script(*cut(OSLO), ["finish", "length"]), "tools": [TOOL]},
    {"input": text_script("a", "b"), "include": ["message.output_text.logprobs"]},
    {"input": text_script("a", "b"), "include": ["message.output_text.logprobs"], "top_logprobs": 2},
]


@pytest.mark.parametrize("body", CASES)
def test_streamed_and_plain_responses_are_equal(server: ServerProcess, body: dict[str, Any]) -> None:
    response = post(server, {"model": "m", **body}, RESPONSES)
    assert response.status_code == 200, response.text
    Response.model_validate(response.json(), strict=True)
    answered = post(server, {"model": "m", **body, "stream": True}, RESPONSES)
    assert answered.headers["content-type"].startswith("text/event-stream")
    whole = grown(named_events(answered.text))
    Response.model_validate(whole, strict=True)
    assert without_ids(whole) == without_ids(response.json())


@pytest.mark.parametrize("body", CASES)
def test_the_output_equals_that_of_chat_completions(server: ServerProcess, body: dict[str, Any]) -> None:
    logprobs = {"logprobs": True} if "include" in body else {}
    renamed = {"tools": [WEATHER] if "tools" in body else None, "max_tokens": body.get("max_output_tokens")}
    others = {key: body[key] for key in ("stop", "tool_choice", "parallel_tool_calls", "top_logprobs") if key in body}
    chat = post(
        server, {"messages": [{"role": "user", "content": body["input"]}], **renamed, **others, **logprobs}
    ).json()
    output, usage = chat["choices"][0], chat["usage"]
    response = post(server, body, RESPONSES).json()
    assert response["status"] == STATUS[output["finish_reason"]]
    assert response["incomplete_details"] == (
        {"reason": "max_output_tokens"} if output["finish_reason"] == "length" else None
    )
    parts = [part for item in response["output"] for part in item.get("content", ())]
    text = [part for part in parts if part["type"] == "output_text"]
    assert "".join(part["text"] for part in text) == (output["message"]["content"] or "")
    thought = "".join(part["text"] for part in parts if part["type"] == "reasoning_text")
    assert thought == output["message"].get("reasoning_content", "")
    assert [
        {"name": item["name"], "arguments": item["arguments"]}
        for item in response["output"]
        if item["type"] == "function_call"
    ] == [call["function"] for call in output["message"].get("tool_calls", ())]
    assert [one for part in text for one in part["logprobs"]] == (output["logprobs"] or {"content": []})["content"]
    assert response["usage"] == {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {**usage["prompt_tokens_details"], "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage["completion_tokens_details"],
        "total_tokens": usage["total_tokens"],
    }


def test_reasoning_is_counted(server: ServerProcess) -> None:
    pieces = ("<think>", "Hm", ", ", "so", "</think>", "Yes", ".")
    for body in ({}, {"stream": True}):
        response = post(server, {"input": text_script(*pieces), **body}, RESPONSES)
        usage = (grown(named_events(response.text)) if body else response.json())["usage"]
        assert (usage["output_tokens"], usage["output_tokens_details"]["reasoning_tokens"]) == (7, 4)


def test_request_fields_are_in_the_response(server: ServerProcess) -> None:
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "metadata": {"who": "me"},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "tool_choice": "none",
        "truncation": "auto",
        "store": False,
        "presence_penalty": 0.25,
        "frequency_penalty": 0.5,
        "max_tool_calls": 3,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "service_tier": "flex",
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
    }
    body = post(server, {"model": "m", "input": text_script("x"), "tools": [TOOL], **asked}, RESPONSES).json()
    assert {key: body[key] for key in asked} == asked
    assert body["tools"] == [{**TOOL, "description": None, "strict": None}]
    assert body["model"] == "scripted"
    assert body["previous_response_id"] is None


def test_fields_without_effect_are_listed(server: ServerProcess) -> None:
    body = {
        "input": text_script("x"),
        "include": ["file_search_call.results", "reasoning.encrypted_content", "message.output_text.logprobs"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "tools": [{**TOOL, "strict": True}],
        "prompt_cache_key": "k",
        "user": None,
    }
    names = "include.file_search_call.results, prompt_cache_key, reasoning.summary, text.verbosity, tools.strict"
    for stream in (False, True):
        response = post(server, {**body, "stream": stream}, RESPONSES)
        assert response.headers["x-mlx-host-ignored"] == names


@pytest.mark.parametrize(
    ("body", "param", "part"),
    [
        ({}, "input", "missing"),
        ({"input": []}, "input", "missing"),
        ({"input": 5}, "input", "must be a string or a list, got 5"),
        ({"input": "x", "background": True, "store": False}, "background", "store"),
        ({"input": "x", "conversation": "c", "previous_response_id": "r"}, "conversation", "combined"),
        ({"input": "x", "prompt": {"id": "p"}}, "prompt", "not supported"),
        ({"input": "x", "tools": [{**TOOL, "strict": "very"}]}, "tools[0].strict", "must be a boolean"),
        ({"input": "x", "tools": [{"type": 5}]}, "tools[0].type", "must be a string"),
        ({"input": "x", "tool_choice": {"type": "web_search"}}, "tool_choice.type", "'web_search'"),
        ({"input": "x", "tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice", "no tools"),
        ({"input": "x", "tools": [{"type": "function"}]}, "tools[0].name", "non-empty string"),
        ({"input": "x", "tools": [{**TOOL, "parameters": "p"}]}, "tools[0].parameters", "must be an object"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens", "at least 1"),
        ({"input": "x", "metadata": {"a": 1}}, "metadata.a", "string"),
        ({"input": "x", "truncation": "some"}, "truncation", "'auto'"),
        ({"input": "x", "previous_response_id": "resp_none"}, "previous_response_id", "'resp_none' not found"),
        ({"input": script(["reject", "no"])}, "input", "no"),
    ],
)
def test_unsupported_fields_are_rejected_by_name(
    server: ServerProcess, body: dict[str, Any], param: str, part: str
) -> None:
    for stream in (False, True):
        error = error_of(post(server, {**body, "stream": stream}, RESPONSES), 400)
        assert error["param"] == param
        assert part in error["message"]


def test_an_error_during_the_stream_fails_the_response(server: ServerProcess, client: openai.OpenAI) -> None:
    body = {"input": script(["text", "He"], ["fail", "oh"]), "stream": True}
    events = named_events(post(server, body, RESPONSES).text)
    response = grown(events)
    assert response["status"] == "failed"
    assert response["error"]["code"] == "server_error"
    assert "ZeroDivisionError: oh" in response["error"]["message"]
    assert [item["status"] for item in response["output"]] == ["incomplete"]
    assert get(server, f"{RESPONSES}/{response['id']}").json() == response
    with (
        client.responses.stream(model="m", input=str(body["input"])) as stream,
        pytest.raises(RuntimeError, match=r"response\.completed"),
    ):
        stream.get_final_response()


def test_an_error_without_a_stream_is_an_error_response(server: ServerProcess) -> None:
    error = error_of(post(server, {"input": script(["text", "He"], ["fail", "oh"])}, RESPONSES), 500)
    assert error["code"] == "engine_failed"


def test_a_stream_can_be_retrieved_and_cancelled(server: ServerProcess, client: openai.OpenAI, tmp_path: Path) -> None:
    steps = script(["text", "He"], ["until", str(tmp_path / "never")])
    with client.responses.create(model="m", input=steps, stream=True) as stream:
        events = iter(stream)
        id = next(event.response.id for event in events if event.type == "response.created")
        assert any(event.type == "response.output_text.delta" for event in events)
        assert client.responses.retrieve(id).status == "in_progress"
        assert client.responses.cancel(id).status == "cancelled"
        last = list(events)[-1]
    assert last.type == "response.incomplete"
    assert last.response.status == "cancelled"
    assert last.response.output_text == "He"
    wait_for_queue(server, running=0)
    kept = client.responses.retrieve(id)
    assert (kept.status, kept.output_text) == ("cancelled", "He")
    with pytest.raises(openai.BadRequestError, match=id):
        client.responses.cancel(id)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_none")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_disconnects_ends_the_generation(server: ServerProcess, tmp_path: Path, stream: bool) -> None:
    reached = tmp_path / "reached"
    steps = script(["text", "He"], ["touch_file", str(reached)], ["until", str(tmp_path / "never")])
    body = json.dumps({"input": steps, "stream": stream}).encode()
    with connection(server) as connected:
        connected.sendall(head(body, RESPONSES) + body)
        eventually(reached.exists)
        if stream:
            read_until(connected, b"output_text.delta")
    wait_for_queue(server, running=0)


def test_the_stream_helper_accepts_every_event(client: openai.OpenAI) -> None:
    steps = script(*cut(f"<think>\nHm.\n</think>\n\nLook:\n{OSLO}\n{ROME}"))
    strict: Any = {**TOOL, "strict": True}
    with client.responses.stream(model="m", input=steps, tools=[strict]) as stream:
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "function_call"]
    assert client.responses.retrieve(final.id).output_text == final.output_text


ODD: list[Any] = [
    *(None, 5, -1, 1.5, True, "", "x", 10**30, [], {}, [[]], [{}], [None], ["x"], {"type": 5}, [{"type": []}], "\x00"),
    *({"format": None}, {"format": {"type": "text"}}, {"effort": 5}, [{"role": [], "content": "x"}]),
    [{"role": "user", "content": [{"type": {}}]}],
    [{"type": "item_reference", "id": ["x"]}],
    [{"type": "item_reference", "id": "\x00"}],
    [{"type": "function_call", "id": [1], "call_id": "c", "name": "n", "arguments": "{"}],
    [{"type": "reasoning", "summary": [{"text": "x", "type": 5}]}],
]


def test_any_value_of_a_field_is_accepted_or_rejected(server: ServerProcess) -> None:
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        for field in ResponsesBody.model_fields:
            for value in ODD:
                body = {"input": text_script("x"), "max_output_tokens": 1, field: value}
                response = client.post(RESPONSES, json=body)
                assert response.status_code in (200, 400, 404), (field, value, response.text)

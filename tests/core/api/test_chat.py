"""Chat completions, plain and streamed, with OpenAI's client and with plain HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.support.client import CHAT, error_of, events, post, script, text_script
from tests.support.server import ServerProcess

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
OSLO = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
ROME = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def cut(text: str, size: int = 3) -> list[list[Any]]:
    """Steps that emit a text in small pieces."""
    return [["text", text[at : at + size]] for at in range(0, len(text), size)]


def streamed(server: ServerProcess, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Request a stream, check the rules that hold for every stream, and return its chunks."""
    response = post(server, {**body, "stream": True})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "content-length" not in response.headers
    chunks = events(response.text)
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        ChatCompletionChunk.model_validate(chunk, strict=True)
        assert {key: chunk[key] for key in ("id", "created", "model")} == {
            key: chunks[0][key] for key in ("id", "created", "model")
        }
    return chunks


def of_choice(chunks: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    return [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]


def joined(chunks: list[dict[str, Any]], index: int = 0) -> dict[str, Any]:
    """Join the deltas of a choice to one of a plain response; role comes first, finish_reason last, each once."""
    choices = of_choice(chunks, index)
    assert choices[0]["delta"]["role"] == "assistant"
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1]["delta"] == {}
    message: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    logprobs = []
    for number, choice in enumerate(choices):
        delta = choice["delta"]
        assert ("role" in delta) == (number == 0)
        for key in ("content", "reasoning_content"):
            if delta.get(key):
                message[key] = message.get(key, "") + delta[key]
        for call in delta.get("tool_calls", ()):
            calls = message.setdefault("tool_calls", [])
            if call["index"] == len(calls):
                calls.append({"id": call["id"], "type": call["type"], "function": {**call["function"]}})
            else:
                assert set(call) == {"index", "function"}
                assert set(call["function"]) == {"arguments"}
                calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        if choice["logprobs"] is not None:
            logprobs += choice["logprobs"]["content"]
    if "tool_calls" in message and not message["content"]:
        message["content"] = None
    return {
        "index": index,
        "message": message,
        "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
        "finish_reason": choices[-1]["finish_reason"],
    }


def without_ids(choice: dict[str, Any]) -> dict[str, Any]:
    for call in choice["message"].get("tool_calls", ()):
        assert call.pop("id").startswith("call_")
    return choice


@pytest.mark.parametrize(
    "body",
    [
        {"messages": text_script("Hello", ", ", "world")},
        {"messages": text_script()},
        {"messages": text_script("", "a", "")},
        {"messages": text_script("naïve", " 🦊", " 日本")},
        {"messages": script(["text", "cut"], ["finish", "length"])},
        {"messages": script(["repeat", "x"]), "max_tokens": 7},
        {"messages": script(["repeat", "x"]), "max_completion_tokens": 3, "max_tokens": 7},
        {"messages": text_script("one", " t", "wo", " three"), "stop": " two"},
        {"messages": text_script("one", " t", "wo", " three"), "stop": ["three", "t"]},
        {"messages": script(*cut("<think>\nHm.\n</think>\n\nYes."))},
        {"messages": script(*cut("<think>\nnever closed"))},
        {"messages": script(*cut(OSLO)), "tools": [WEATHER]},
        {"messages": script(*cut(f"<think>\nHm.\n</think>\n\nLook:\n{OSLO}\n{ROME}")), "tools": [WEATHER]},
        {"messages": script(*cut(f"{OSLO}\n{ROME}")), "tools": [WEATHER], "parallel_tool_calls": False},
        {"messages": script(*cut(OSLO)), "tools": [WEATHER], "tool_choice": "none"},
        {"messages": script(*cut(OSLO)[:-1], ["finish", "length"]), "tools": [WEATHER]},
        {"messages": script(*cut(OSLO), ["finish", "length"]), "tools": [WEATHER]},
        {"messages": text_script("a", "b"), "logprobs": True},
        {"messages": text_script("a", "b"), "logprobs": True, "top_logprobs": 2},
        {"messages": text_script("a", "b ", "s", "top"), "logprobs": True, "stop": "stop"},
        {
            "messages": script(
                ["text", "a"], ["text", "b", 1], ["text", "c"], ["finish", "length", 0], ["text", "d", 1]
            ),
            "n": 2,
        },
        {
            "messages": script(["text", "a s"], ["text", "b", 1], ["text", "top"], ["text", "d", 1]),
            "n": 2,
            "stop": "st",
        },
    ],
)
def test_streamed_and_plain_responses_are_equal(server: ServerProcess, body: dict[str, Any]) -> None:
    response = post(server, {"model": "m", **body})
    assert response.status_code == 200, response.text
    whole = response.json()
    ChatCompletion.model_validate(whole, strict=True)
    chunks = streamed(server, {"model": "m", **body, "stream_options": {"include_usage": True}})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert [without_ids(joined(chunks, index)) for index in range(body.get("n", 1))] == [
        without_ids(choice) for choice in whole["choices"]
    ]


def test_plain_response(server: ServerProcess) -> None:
    body = post(server, {"model": "m", "messages": text_script("Hello", ", ", "world")}).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "scripted"
    assert body["id"].startswith("chatcmpl-")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello, world", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def test_usage_is_streamed_only_if_requested(server: ServerProcess) -> None:
    for options in (None, {}, {"include_usage": False}, {"include_usage": None}):
        chunks = streamed(server, {"messages": text_script("a"), "stream_options": options})
        assert all(chunk["choices"] for chunk in chunks)
        assert all("usage" not in chunk for chunk in chunks)


def test_choices_appear_in_order_and_interleave(server: ServerProcess, tmp_path: Path) -> None:
    second = tmp_path / "second"
    steps: list[list[Any]] = [["text", "a1", 1], ["text", "a0", 0], ["until", str(second)], ["text", "b1", 1]]
    seen: list[tuple[int, str]] = []
    body = {"messages": script(*steps), "n": 2, "stream": True}
    with httpx2.stream("POST", f"{server.url}{CHAT}", json=body) as response:
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            (choice,) = json.loads(line.removeprefix("data: "))["choices"]
            seen.append((choice["index"], choice["delta"].get("content")))
            if (0, "a0") in seen and (1, "a1") in seen:
                second.touch()
    assert seen[:2] == [(0, ""), (1, "")]
    assert (1, "b1") in seen[4:]


def test_finished_choice_emits_no_more_text(server: ServerProcess) -> None:
    steps: list[list[Any]] = [["text", "a"], ["finish", "stop", 0], ["text", "never", 0], ["text", "b", 1]]
    body = {"messages": script(*steps), "n": 2}
    chunks = streamed(server, body)
    assert of_choice(chunks, 0)[-1]["finish_reason"] == "stop"
    assert joined(chunks, 0)["message"]["content"] == "a"
    assert joined(chunks, 1)["message"]["content"] == "b"


def test_call_is_announced_once_and_its_arguments_follow(server: ServerProcess) -> None:
    chunks = streamed(server, {"messages": script(*cut(f"{OSLO}\n{ROME}")), "tools": [WEATHER]})
    calls = [call for choice in of_choice(chunks) for call in choice["delta"].get("tool_calls", ())]
    assert [call["index"] for call in calls] == [0, 0, 1, 1]
    assert [sorted(call) for call in calls] == [["function", "id", "index", "type"], ["function", "index"]] * 2
    assert [call["function"]["name"] for call in calls[::2]] == ["get_weather"] * 2
    assert json.loads(calls[1]["function"]["arguments"]) == {"city": "Oslo"}
    assert calls[0]["id"] != calls[2]["id"]
    assert of_choice(chunks)[-1]["finish_reason"] == "tool_calls"


def test_generation_ends_after_one_call_without_parallel_tool_calls(server: ServerProcess) -> None:
    body = {"messages": script(*cut(OSLO), ["repeat", "x"]), "tools": [WEATHER], "parallel_tool_calls": False}
    choice = post(server, body).json()["choices"][0]
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "tool_calls"


def test_truncated_output_with_a_call_has_finish_reason_length(server: ServerProcess) -> None:
    body = {"messages": script(*cut(OSLO), ["finish", "length"]), "tools": [WEATHER]}
    choice = post(server, body).json()["choices"][0]
    assert (len(choice["message"]["tool_calls"]), choice["finish_reason"]) == (1, "length")


def test_content_is_an_empty_string_if_there_is_only_reasoning(server: ServerProcess) -> None:
    message = post(server, {"messages": script(*cut("<think>\nHm."))}).json()["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "", "refusal": None, "reasoning_content": "Hm."}


def test_sdk_stream_helper_and_parse_agree(client: openai.OpenAI) -> None:
    text = f"<think>\nHm.\n</think>\n\nLook:\n{OSLO}\n{ROME}"
    asked: Any = {"model": "m", "messages": script(*cut(text)), "tools": [WEATHER]}
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion().choices[0]
    whole = client.chat.completions.create(**asked).choices[0]
    assert final.message.role == whole.message.role == "assistant"
    assert final.message.content == whole.message.content == "Look:\n"
    assert final.finish_reason == whole.finish_reason == "tool_calls"
    assert [c.function.arguments for c in final.message.tool_calls or ()] == [
        c.function.arguments for c in whole.message.tool_calls or () if c.type == "function"
    ]


def test_response_messages_of_the_sdk_are_accepted_as_input(client: openai.OpenAI) -> None:
    history: Any = script(*cut(OSLO))
    tools: Any = [WEATHER]
    called = client.chat.completions.create(model="m", messages=history, tools=tools).choices[0].message
    assert called.tool_calls
    history += [called, {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "rain"}]
    asked: Any = [*history, *text_script("It rains.")]
    answered = client.chat.completions.create(model="m", messages=asked, tools=tools)
    assert answered.choices[0].message.content == "It rains."
    again: Any = [*history, answered.choices[0].message.model_dump(), *text_script("Yes.")]
    assert client.chat.completions.create(model="m", messages=again).choices[0].message.content == "Yes."


NULLABLE = [
    *("model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "stop", "logprobs"),
    *("top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "response_format", "temperature", "top_p"),
    *("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias", "seed"),
    *("service_tier", "reasoning_effort", "user", "metadata", "store", "functions", "audio", "modalities"),
    *("chat_template_kwargs", "web_search_options", "prediction", "verbosity"),
]


def test_null_means_the_default(server: ServerProcess) -> None:
    body = {"messages": text_script("hi")} | dict.fromkeys(NULLABLE)
    response = post(server, body)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "hi"
    assert "x-mlx-host-ignored" not in response.headers


def test_integers_are_accepted_as_floats(server: ServerProcess) -> None:
    body = {"messages": text_script("hi"), "temperature": 0, "top_p": 1, "presence_penalty": -2, "logit_bias": {"1": 5}}
    assert post(server, body).status_code == 200


@pytest.mark.parametrize("role", ["system", "developer", "user", "tool", "assistant", "function"])
def test_every_role_is_accepted(server: ServerProcess, role: str) -> None:
    message = {"role": role, "content": json.dumps([["text", "hi"]]), "tool_call_id": "x", "name": "n"}
    assert post(server, {"messages": [message]}).json()["choices"][0]["message"]["content"] == "hi"


def test_fields_without_effect_are_listed(server: ServerProcess) -> None:
    extra = {"user": "me", "metadata": {"a": "b"}, "zeta": 1, "store": None}
    for stream in (False, True):
        response = post(server, {"messages": text_script("hi"), "stream": stream, **extra})
        assert response.headers["x-mlx-host-ignored"] == "metadata, user, zeta"
    response = post(server, {"messages": text_script("hi"), "stream_options": {"include_usage": True}})
    assert response.headers["x-mlx-host-ignored"] == "stream_options"


@pytest.mark.parametrize(
    ("fields", "listed"),
    [
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"max_tokens": 2, "max_completion_tokens": 2}, None),
        ({"stop": ""}, "stop"),
        ({"stop": ["", "x"]}, "stop"),
        ({"stop": []}, None),
    ],
)
def test_a_limit_that_another_overrides_and_empty_stop_strings_are_listed(
    server: ServerProcess, fields: dict[str, Any], listed: str | None
) -> None:
    response = post(server, {"messages": text_script("a", "x"), **fields})
    assert response.headers.get("x-mlx-host-ignored") == listed
    assert response.json()["choices"][0]["message"]["content"] == ("a" if "x" in fields.get("stop", "") else "ax")


@pytest.mark.parametrize(
    ("field", "listed"),
    [
        ("a\r\nset-cookie: x=y", "a%0D%0Aset-cookie%3A%20x%3Dy"),
        ("日本", "%E6%97%A5%E6%9C%AC"),
        ("a,b", "a%2Cb"),
        ("x" * 500, "x" * 60),
    ],
)
def test_names_of_ignored_fields_cannot_break_the_header(server: ServerProcess, field: str, listed: str) -> None:
    response = post(server, {"messages": text_script("hi"), field: 1})
    assert response.status_code == 200
    assert response.headers["x-mlx-host-ignored"] == listed
    assert "set-cookie" not in response.headers


def test_header_with_many_ignored_fields_is_truncated(server: ServerProcess) -> None:
    response = post(server, {"messages": text_script("hi"), **{f"field{number}": 1 for number in range(5000)}})
    assert response.status_code == 200
    assert response.headers["x-mlx-host-ignored"].endswith(", ...")
    assert len(response.headers["x-mlx-host-ignored"]) < 4000


def test_logprobs(client: openai.OpenAI) -> None:
    asked: Any = {"model": "m", "messages": text_script("é", "b"), "logprobs": True}
    logprobs = client.chat.completions.create(**asked, top_logprobs=2).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    first = logprobs.content[0]
    assert (first.token, first.logprob, first.bytes) == ("é", -0.5, [0xC3, 0xA9])
    assert [(top.token, top.logprob) for top in first.top_logprobs] == [("alt0", -1.5), ("alt1", -2.5)]
    none = client.chat.completions.create(**asked).choices[0].logprobs
    assert none is not None
    assert none.content is not None
    assert none.content[0].top_logprobs == []


def test_logprobs_that_are_not_finite_become_the_minimum(server: ServerProcess) -> None:
    for step in (["logprob", "-inf"], ["logprob", "nan"]):
        for stream in (False, True):
            response = post(server, {"messages": script(step), "logprobs": True, "stream": stream})
            assert response.status_code == 200
            assert '"logprob":-9999.0' in response.text


def test_unpaired_surrogate_in_the_output_is_replaced(server: ServerProcess) -> None:
    body = {"messages": script(["lone_surrogate"])}
    assert post(server, body).json()["choices"][0]["message"]["content"] == "a?"
    assert joined(streamed(server, body))["message"]["content"] == "a?"


@pytest.mark.parametrize("stream", [False, True])
def test_rejection_by_the_model_keeps_its_status(server: ServerProcess, stream: bool) -> None:
    body = {"messages": script(["reject", "I will not"]), "stream": stream}
    error = error_of(post(server, body), 400)
    assert error == {"message": "I will not", "type": "invalid_request_error", "param": "messages", "code": None}


def test_failure_of_the_model_is_a_500_without_stream(server: ServerProcess) -> None:
    error = error_of(post(server, {"messages": script(["text", "a"], ["fail", "by zero"])}), 500)
    assert error["code"] == "engine_failed"
    assert "ZeroDivisionError: by zero" in error["message"]


def test_failure_after_the_first_byte_is_the_last_event(server: ServerProcess) -> None:
    response = post(server, {"messages": script(["text", "a"], ["fail", "by zero"]), "stream": True})
    assert response.status_code == 200
    *chunks, last = [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n")[:-1]]
    assert list(last) == ["error"]
    assert last["error"]["code"] == "engine_failed"
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk["choices"])


def test_sdk_raises_the_error_of_the_stream(client: openai.OpenAI) -> None:
    failing: Any = script(["text", "a"], ["fail", "no"])
    stream = client.chat.completions.create(model="m", messages=failing, stream=True)
    with pytest.raises(openai.APIError, match="ZeroDivisionError: no") as caught:
        list(stream)
    assert caught.value.code == "engine_failed"


def test_model_serves_requests_after_a_failure(server: ServerProcess) -> None:
    for step in (["fail", "once"], ["yield_value", 5], ["nonsense"]):
        assert post(server, {"messages": script(["text", "a"], step)}).status_code in (400, 500)
    assert post(server, {"messages": text_script("fine")}).json()["choices"][0]["message"]["content"] == "fine"


def test_streams_are_not_cached_by_proxies(server: ServerProcess) -> None:
    response = post(server, {"messages": text_script("a"), "stream": True})
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"


def test_request_ids_are_unique(server: ServerProcess) -> None:
    responses = [post(server, {"messages": text_script("a"), "stream": stream}) for stream in (False, True, False)]
    assert len({response.headers["x-request-id"] for response in responses}) == 3
    assert all(r.headers["request-id"] == r.headers["x-request-id"] for r in responses)


def test_connection_is_kept_alive(server: ServerProcess) -> None:
    with httpx2.Client(base_url=server.url) as client:
        for stream in (False, True, False):
            body = {"messages": text_script("a"), "stream": stream}
            response = client.post("/v1/chat/completions", json=body)
            assert response.status_code == 200
            assert response.headers.get("connection") != "close"

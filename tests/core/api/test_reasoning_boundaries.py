"""Stop strings and log-probabilities belong to the content, not to the reasoning or the calls before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import CHAT, events, post, script, text_script
from tests.support.server import ServerProcess, running_server

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server whose chat template has opened the reasoning."""
    with running_server("--backend", "scripted", "--parser", "qwen3", "--generation-prompt", "<think>\n") as running:
        yield running


def choice_of(server: ServerProcess, body: dict[str, Any]) -> dict[str, Any]:
    """Return the choice of a non-streaming response, after checking that the stream is equal to it."""
    plain: dict[str, Any] = post(server, body).json()["choices"][0]
    message: dict[str, str] = {}
    logprobs: list[Any] = []
    reason = None
    for chunk in events(post(server, {**body, "stream": True}).text):
        (streamed,) = chunk["choices"]
        for key, text in streamed["delta"].items():
            if key != "tool_calls":
                message[key] = message.get(key, "") + text
        if streamed["logprobs"] is not None:
            # Next to their text, or with no text at all.
            assert not streamed["delta"].get("reasoning_content")
            assert "tool_calls" not in streamed["delta"]
            logprobs += streamed["logprobs"]["content"]
        reason = streamed["finish_reason"] or reason
    assert message.get("reasoning_content") == plain["message"].get("reasoning_content")
    assert message["content"] == (plain["message"]["content"] or "")
    assert logprobs == (plain["logprobs"] or {"content": []})["content"]
    assert reason == plain["finish_reason"]
    return plain


@pytest.mark.parametrize(
    "texts",
    [
        ("I think\nso STOP now</think>\n\nYes STOP no",),
        ("I think\nso ST", "OP now</th", "ink>\n", "\nYe", "s S", "TOP", " no"),
        (*"I think\nso STOP now</think>\n\nYes STOP no",),
    ],
    ids=["one", "several", "characters"],
)
@pytest.mark.parametrize("logprobs", [None, True])
def test_a_stop_string_in_the_reasoning_does_not_stop(
    server: ServerProcess, texts: tuple[str, ...], logprobs: bool | None
) -> None:
    choice = choice_of(server, {"messages": text_script(*texts), "stop": ["STOP"], "logprobs": logprobs})
    assert choice["message"]["content"] == "Yes "
    assert choice["message"]["reasoning_content"] == "I think\nso STOP now"
    assert choice["finish_reason"] == "stop"


def test_the_stop_string_is_kept_on_request(server: ServerProcess) -> None:
    asked = {"messages": text_script("END</think>a E", "ND b"), "stop": "END", "include_stop_str_in_output": True}
    assert choice_of(server, {**asked, "logprobs": True})["message"]["content"] == "a END"


def test_every_api_stops_in_the_content_only(server: ServerProcess) -> None:
    asked = text_script("a END b</think>", "\n\ncEN", "D d")
    response = post(server, {"input": asked, "stop": "END"}, "/v1/responses").json()
    assert [item["content"][0]["text"] for item in response["output"]] == ["a END b", "c"]
    body = {"messages": asked, "stop_sequences": ["END"], "max_tokens": 50}
    message = post(server, body, "/v1/messages").json()
    assert message["content"][-1]["text"] == "c"
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


def test_a_stop_string_in_the_arguments_of_a_call_does_not_stop(server: ServerProcess) -> None:
    call = '<tool_call>{"name": "f", "arguments": {"a": "END"}}</tool_call>'
    body = {"messages": text_script(f"x</think>{call}"), "tools": TOOLS, "stop": "END"}
    choice = post(server, body).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"a": "END"}


def test_each_choice_has_its_own_stop(server: ServerProcess) -> None:
    steps = [["text", "</think>a", 0], ["text", "</think>b", 1], ["text", "END", 0], ["text", "c", 0], ["text", "d", 1]]
    choices = post(server, {"messages": script(*steps), "n": 2, "stop": "END"}).json()
    assert [choice["message"]["content"] for choice in choices["choices"]] == ["a", "bd"]
    # The text after the stop string is not counted.
    assert choices["usage"]["completion_tokens"] == 4


def test_a_stopped_request_frees_its_slot(server: ServerProcess) -> None:
    body = {"messages": script(["text", "</think>a END"], ["repeat", "x"]), "stop": "END"}
    for _ in range(6):
        assert post(server, body).json()["choices"][0]["message"]["content"] == "a "


@pytest.mark.parametrize(
    ("texts", "content", "tokens"),
    [
        (("hm", "</think>", "\n\n", "Yes"), "Yes", ["Yes"]),
        (("hm", "</think>", "\n\nYes", ", sir"), "Yes, sir", ["\n\nYes", ", sir"]),
        (("hm</think>Yes",), "Yes", ["hm</think>Yes"]),
        (("hm", "</think>", "Y", "<to", "ol", "s"), "Y<tools", ["Y", "<to", "ol", "s"]),
        (("hm",), "", []),
    ],
)
def test_logprobs_are_those_of_the_content(
    server: ServerProcess, texts: tuple[str, ...], content: str, tokens: list[str]
) -> None:
    choice = choice_of(server, {"messages": text_script(*texts), "logprobs": True, "top_logprobs": 1})
    assert choice["message"]["content"] == content
    found = choice["logprobs"]["content"] if choice["logprobs"] else []
    assert [each["token"] for each in found] == tokens
    body = {"input": text_script(*texts), "top_logprobs": 1}
    output = post(server, body, "/v1/responses").json()["output"]
    messages = [item["content"][0] for item in output if item["type"] == "message"]
    assert [each["token"] for part in messages for each in part["logprobs"]] == tokens


def test_logprobs_of_a_call_are_omitted(server: ServerProcess) -> None:
    pieces = ("</think>", "See", ": ", '<tool_call>{"name": ', '"f", "arguments": {}}', "</tool_call>")
    choice = choice_of(server, {"messages": text_script(*pieces), "tools": TOOLS, "logprobs": True})
    assert choice["message"]["tool_calls"]
    assert [each["token"] for each in choice["logprobs"]["content"]] == ["See", ": "]


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages"])
def test_an_unpaired_surrogate_in_the_arguments_of_a_call_is_replaced(server: ServerProcess, path: str) -> None:
    arguments = r'{"command": "a\ud83d", "path": "C:\\udead", "smile": "\ud83d\ude00", "n": 1.50}'
    asked = text_script(f'</think><tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>')
    flat = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    named = {"name": "f", "input_schema": {"type": "object"}}
    body = {
        CHAT: {"messages": asked, "tools": TOOLS},
        "/v1/responses": {"input": asked, "tools": [flat]},
        "/v1/messages": {"messages": asked, "tools": [named], "max_tokens": 9},
    }[path]
    answer = post(server, body, path).json()
    if path == CHAT:
        text = answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
        assert text == arguments.replace(r"\ud83d\"", r"\ufffd\"").replace(r"a\ud83d", r"a\ufffd")
    else:
        part = answer["output" if path == "/v1/responses" else "content"][-1]
        text = part["arguments"] if path == "/v1/responses" else json.dumps(part["input"])
    assert json.loads(text) == {"command": "a\ufffd", "path": r"C:\udead", "smile": "😀", "n": 1.5}

"""Custom tools in chat completions: offered as a function with one string, and called with free text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.client import error_of, post, script, sdk, text_script
from tests.support.server import ServerProcess

CUSTOM = {"type": "custom", "custom": {"name": "run", "description": "Run code."}}
FUNCTION = {"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}
CALLS = "".join(
    f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"
    for name, arguments in (("run", {"input": "print(1)"}), ("get", {"a": 1}))
)


def received(server: ServerProcess, field: str, **body: Any) -> Any:
    messages = [*body.pop("messages", []), *script(["request", field])]
    response = post(server, {"messages": messages, **body})
    assert response.status_code == 200, response.text
    return json.loads(response.json()["choices"][0]["message"]["content"])


def test_a_custom_tool_is_offered_as_a_function_with_one_string(server: ServerProcess) -> None:
    (tool,) = received(server, "tools", tools=[CUSTOM])
    assert tool["type"] == "function"
    assert tool["function"]["name"] == "run"
    assert list(tool["function"]["parameters"]["properties"]) == ["input"]
    grammar = {"type": "grammar", "syntax": "regex", "definition": "[0-9]+"}
    (tool,) = received(server, "tools", tools=[{"type": "custom", "custom": {"name": "run", "format": grammar}}])
    assert tool["function"]["parameters"]["properties"]["input"]["pattern"] == "^(?:[0-9]+)$"


@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_custom_tools_have_free_text(server: ServerProcess, stream: bool) -> None:
    with sdk(server) as client:
        body: dict[str, Any] = {"model": "m", "messages": text_script(CALLS), "tools": [CUSTOM, FUNCTION]}
        if not stream:
            message = client.chat.completions.create(**body).choices[0].message
            calls = [call.to_dict() for call in message.tool_calls or ()]
        else:
            calls = []
            for chunk in client.chat.completions.create(**body, stream=True):
                for delta in chunk.choices[0].delta.tool_calls or ():
                    part = delta.to_dict()
                    if part.get("id"):
                        calls.append(part)
                        continue
                    ((kind, values),) = ((key, part[key]) for key in ("custom", "function") if part.get(key))
                    for name, text in values.items():
                        calls[-1][kind][name] += text
    run, get = calls
    assert (run["type"], run["custom"]) == ("custom", {"name": "run", "input": "print(1)"})
    assert get["type"] == "function"
    assert json.loads(get["function"]["arguments"]) == {"a": 1}


def test_calls_of_custom_tools_can_be_sent_back(server: ServerProcess) -> None:
    call = {"id": "c", "type": "custom", "custom": {"name": "run", "input": "print(1)"}}
    history = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": None},
    ]
    _, assistant, result, _ = received(server, "messages", messages=history, tools=[CUSTOM])
    (sent,) = assistant["tool_calls"]
    assert (sent["id"], sent["type"], sent["function"]["name"]) == ("c", "function", "run")
    assert json.loads(sent["function"]["arguments"]) == {"input": "print(1)"}
    assert result["content"] == ""


def test_invalid_custom_tools_are_rejected(server: ServerProcess) -> None:
    for tool, param in (
        ({"type": "custom"}, "tools[0].custom"),
        ({"type": "custom", "custom": {"name": ""}}, "tools[0].custom.name"),
        ({"type": "custom", "custom": {"name": "f", "format": {"type": "x"}}}, "tools[0].custom.format"),
    ):
        error = error_of(post(server, {"messages": text_script("a"), "tools": [tool]}), 400)
        assert error["param"] == param
    choice = {"type": "custom", "custom": {"name": "other"}}
    body = {"messages": text_script("a"), "tools": [CUSTOM], "tool_choice": choice}
    assert error_of(post(server, body), 400)["param"] == "tool_choice"

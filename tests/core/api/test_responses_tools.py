"""Tools of the Responses API: functions, custom tools, namespaces, tool search and hosted tools."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from mlx_host._apis.responses.items import normalize_items
from mlx_host._apis.responses.request import to_prompt
from mlx_host._apis.responses.schema import InputBody
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ChatRequest

from tests.core.api.test_chat import cut
from tests.core.api.test_responses import RESPONSES, TOOL, named_events, script, text_script
from tests.support.client import post
from tests.support.server import ServerProcess

LARK = {"type": "grammar", "syntax": "lark", "definition": 'start: "a"'}
PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": PARAMETERS, **more}


def namespace(name: str, *tools: dict[str, Any]) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": "d", "tools": list(tools)}


def called(name: str, arguments: dict[str, Any]) -> str:
    call = f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"
    return script(*cut(call))


def prompt(tools: list[Any], input: Any = "x", **more: Any) -> ChatRequest:
    body = InputBody.model_validate({"tools": tools, "input": input, **more})
    return to_prompt(body, [], normalize_items(body.input, {})).chat


def names(request: ChatRequest) -> list[str]:
    return [tool["function"]["name"] for tool in request.tools]


def test_tools_in_namespaces_have_unambiguous_names() -> None:
    tools = [
        namespace("a", function("add"), function("sub")),
        namespace("b", function("add")),
        function("add"),
        function("a__sub"),
    ]
    offered = names(prompt(tools))
    assert sorted(offered) == ["a__add", "a__sub", "a__sub_2", "add", "b__add"]


def test_calls_in_namespaces_are_passed_and_returned(client: openai.OpenAI) -> None:
    tools: Any = [namespace("mcp__calc", function("add"), {"type": "custom", "name": "note"})]
    response = client.responses.create(model="m", input=called("mcp__calc__add", {"a": 1}), tools=tools)
    (call,) = response.output
    assert call.type == "function_call"
    assert (call.name, call.namespace, call.arguments) == ("add", "mcp__calc", '{"a": 1}')
    response = client.responses.create(model="m", input=called("mcp__calc__note", {"input": "x"}), tools=tools)
    (custom,) = response.output
    assert custom.type == "custom_tool_call"
    assert (custom.name, custom.namespace, custom.input) == ("note", "mcp__calc", "x")
    items: Any = [call.to_dict(), {"type": "function_call_output", "call_id": call.call_id, "output": "3"}]
    message = prompt(tools, items).messages[0]
    assert message["tool_calls"][0]["function"]["name"] == "mcp__calc__add"
    again = client.responses.create(
        model="m",
        previous_response_id=response.id,
        input=[{"type": "custom_tool_call_output", "call_id": custom.call_id, "output": text_script("ok")}],
        tools=tools,
    )
    assert again.output_text == "ok"


def test_custom_tools_are_called_with_text(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "custom", "name": "patch", "description": "d"}]
    text = 'a "quoted"\nline'
    with client.responses.create(model="m", input=called("patch", {"input": text}), tools=tools, stream=True) as stream:
        events = list(stream)
    deltas = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
    done = [event.input for event in events if event.type == "response.custom_tool_call_input.done"]
    assert ("".join(deltas), done) == (text, [text])
    last = events[-1]
    assert last.type == "response.completed"
    assert [item.type for item in last.response.output] == ["custom_tool_call"]


def test_a_custom_tool_is_a_function_with_one_string() -> None:
    request = prompt([{"type": "custom", "name": "patch", "description": "d"}])
    schema = request.tools[0]["function"]["parameters"]
    assert (list(schema["properties"]), schema["required"]) == (["input"], ["input"])
    regex = {"type": "grammar", "syntax": "regex", "definition": "a+|b"}
    tool = prompt([{"type": "custom", "name": "patch", "format": regex}]).tools[0]["function"]
    assert tool["strict"] is True
    assert tool["parameters"]["properties"]["input"]["pattern"] == "^(?:a+|b)$"


def test_tool_choice_names_tools_of_the_client() -> None:
    tools = [namespace("ns", function("f")), {"type": "custom", "name": "patch"}, function("g")]
    chosen = [
        ({"type": "function", "name": "f"}, "required", ["ns__f"]),
        ({"type": "function", "name": "f", "namespace": "ns"}, "required", ["ns__f"]),
        ({"type": "custom", "name": "patch"}, "required", ["patch"]),
        ({"type": "allowed_tools", "tools": [{"type": "function", "name": "g"}]}, "auto", ["g"]),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "web_search"}, {"type": "custom", "name": "patch"}],
            },
            "required",
            ["patch"],
        ),
    ]
    for choice, mode, allowed in chosen:
        request = prompt(tools, tool_choice=choice)
        assert (request.tool_choice, request.allowed_tools) == (mode, allowed)
    for invalid in (
        {"type": "custom", "name": "none"},
        {"type": "web_search"},
        {"type": "allowed_tools", "tools": [{"type": "web_search"}]},
        {"type": "allowed_tools", "tools": []},
        {"type": "allowed_tools", "tools": "f"},
    ):
        with pytest.raises(InvalidRequestError) as rejected:
            prompt(tools, tool_choice=invalid)
        assert str(rejected.value.param).startswith("tool_choice")


@pytest.mark.parametrize(
    ("tool", "listed"),
    [
        ({"type": "web_search"}, "tools.web_search"),
        ({"type": "mcp", "server_label": "s", "server_url": "https://mcp.invalid"}, "tools.mcp"),
        ({"type": "tool_search"}, "tools.tool_search"),
        ({"type": "acme:tool"}, "tools.acme%3Atool"),
        (function("f", defer_loading=True, output_schema=PARAMETERS), "tools.defer_loading, tools.output_schema"),
        ({"type": "custom", "name": "c", "defer_loading": True}, "tools.defer_loading"),
        (
            {"type": "custom", "name": "c", "format": LARK},
            "tools.format",
        ),
    ],
)
def test_tools_without_effect_are_listed(server: ServerProcess, tool: dict[str, Any], listed: str) -> None:
    response = post(server, {"input": text_script("x"), "tools": [tool]}, RESPONSES)
    assert response.status_code == 200, response.text
    assert response.headers["x-mlx-host-ignored"] == listed
    counted = post(server, {"input": text_script("x"), "tools": [tool]}, f"{RESPONSES}/input_tokens")
    assert counted.headers["x-mlx-host-ignored"] == listed


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "namespace", "name": "n"}, "tools[0].tools"),
        (namespace("n", {"type": "function"}), "tools[0].tools[0].name"),
        ({"type": "custom"}, "tools[0].name"),
        ({"type": "custom", "name": "c", "format": {"type": "xml"}}, "tools[0].format"),
        ({"type": "custom", "name": "c", "description": 5}, "tools[0].description"),
    ],
)
def test_invalid_tools_are_rejected(tool: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as rejected:
        prompt([tool])
    assert rejected.value.param == param


def test_a_client_searches_for_tools(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "tool_search", "execution": "client"}]
    response = client.responses.create(model="m", input=called("tool_search", {"query": "mail"}), tools=tools)
    (call,) = response.output
    assert call.type == "tool_search_call"
    assert (call.execution, call.arguments) == ("client", {"query": "mail"})
    found = {
        "type": "tool_search_output",
        "call_id": call.call_id,
        "execution": "client",
        "status": "completed",
        "tools": [namespace("mail", function("send")), {"type": "function"}],
    }
    items: Any = [call.to_dict(), found, {"role": "user", "content": called("mail__send", {})}]
    request = prompt(tools, items)
    assert names(request) == ["tool_search", "mail__send"]
    assert [message["role"] for message in request.messages] == ["assistant", "tool", "user"]
    again: Any = client.responses.create(model="m", input=items, tools=tools)
    assert (again.output[0].name, again.output[0].namespace) == ("send", "mail")


def test_additional_tools_join_the_tools() -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": [function("late"), TOOL]}
    assert names(prompt([TOOL], [added, {"role": "user", "content": "x"}])) == ["get_weather", "late"]


def test_a_request_of_codex(server: ServerProcess) -> None:
    """The tools, fields and items that Codex 0.171 sends with its default settings."""
    tools = [
        function("exec_command", strict=False, description="d"),
        namespace("multi_agent_v1", function("close_agent", strict=False)),
        namespace("mcp__calc", function("add")),
        {"type": "web_search", "external_web_access": True},
    ]
    message = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]}
    history = [
        message,
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Add."}]},
        {"type": "reasoning", "summary": [], "content": None, "encrypted_content": "gAAAA"},
        {"type": "function_call", "name": "add", "namespace": "mcp__calc", "arguments": "{}", "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "3"}]},
        {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}},
        {
            "type": "message",
            "role": "assistant",
            "phase": "final_answer",
            "content": [{"type": "output_text", "text": "3"}],
        },
        message,
    ]
    body = {
        "model": "m",
        "stream": True,
        "store": False,
        "tools": tools,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
        "client_metadata": {"a": "b"},
    }
    user = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": called("mcp__calc__add", {})}],
    }
    response = post(server, {**body, "input": [*history, user]}, RESPONSES)
    assert response.status_code == 200, response.text
    last = named_events(response.text)[-1]
    assert [(item["name"], item["namespace"]) for item in last["response"]["output"]] == [("add", "mcp__calc")]
    assert response.headers["x-mlx-host-ignored"].split(", ") == [
        "client_metadata",
        "input.encrypted_content",
        "input.web_search_call",
        "prompt_cache_key",
        "reasoning.summary",
        "tools.description",
        "tools.web_search",
    ]

"""Calls with damaged JSON, of other names and without markup: how every API reports them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.client import get, post
from tests.support.server import ServerProcess, running_server

NAME, PARAMETERS = (
    "exec",
    {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
)
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
APIS = (CHAT, RESPONSES, MESSAGES)
HEADER = "x-mlx-host-warning"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a model for each parser, and one that does not repair calls."""
    models = [(parser, parser, True) for parser in ("qwen3", "hermes", "harmony")] + [("strict", "qwen3", False)]
    tables = [
        f'[[models]]\nbackend = "scripted"\nserved_model_name = "{name}"\nparser = "{parser}"\n'
        f"repair_tool_calls = {str(repair).lower()}\n"
        for name, parser, repair in models
    ]
    file: Path = tmp_path_factory.mktemp("config") / "models.toml"
    file.write_text("\n".join(tables), encoding="utf-8")
    with running_server("--config", str(file)) as running:
        yield running


def ask(server: ServerProcess, api: str, text: str, *, model: str = "qwen3", stream: bool = False) -> httpx2.Response:
    """Ask a model that answers with `text`, one character at a time, and has the tool exec."""
    script = json.dumps([["text", char] for char in text])
    function = {"name": NAME, "parameters": PARAMETERS}
    body: dict[str, Any] = {"model": model, "stream": stream}
    if api == RESPONSES:
        body |= {"input": script, "tools": [{"type": "function", **function}]}
    elif api == MESSAGES:
        tool = {"name": NAME, "input_schema": PARAMETERS}
        body |= {"messages": [{"role": "user", "content": script}], "tools": [tool], "max_tokens": 10_000}
    else:
        tool = {"type": "function", "function": function}
        body |= {"messages": [{"role": "user", "content": script}], "tools": [tool]}
    response = post(server, body, api)
    assert response.status_code == 200, response.text
    return response


def calls(response: httpx2.Response, api: str, stream: bool) -> list[tuple[str, Any]]:
    """Return the names and arguments of the calls of a response."""
    if not stream:
        body = response.json()
        if api == RESPONSES:
            items = [item for item in body["output"] if item["type"] == "function_call"]
            return [(item["name"], json.loads(item["arguments"])) for item in items]
        if api == MESSAGES:
            return [(block["name"], block["input"]) for block in body["content"] if block["type"] == "tool_use"]
        found = body["choices"][0]["message"].get("tool_calls") or ()
        return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in found]
    names: list[str] = []
    arguments: list[str] = []
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    for event in (json.loads(line) for line in lines if line != "[DONE]"):
        match event:
            case {"type": "response.output_item.done", "item": {"type": "function_call", "name": name} as item}:
                names.append(name)
                arguments.append(item["arguments"])
            case {"type": "content_block_start", "content_block": {"type": "tool_use", "name": name}}:
                names.append(name)
                arguments.append("")
            case {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": text}}:
                arguments[-1] += text
            case {"choices": [{"delta": {"tool_calls": [{"function": function}]}}]}:
                if "name" in function:
                    names.append(function["name"])
                    arguments.append("")
                arguments[-1] += function.get("arguments") or ""
    return [(name, json.loads(text or "{}")) for name, text in zip(names, arguments, strict=True)]


def warning(response: httpx2.Response, stream: bool) -> str:
    """Return the warning in the header or, in a stream, in a comment; "" if there is none."""
    if not stream:
        return str(response.headers.get(HEADER, ""))
    prefix = f": {HEADER}: "
    return next((line.removeprefix(prefix) for line in response.text.splitlines() if line.startswith(prefix)), "")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("text", "expected", "repaired"),
    [
        ('{"name": "exec", "input": {"command": "ls"}}', "ls", False),
        ('{"name": "exec", "command": "ls"}', "ls", False),
        ('```json\n{"name": "Exec", "arguments": {"command": "ls"}}\n```', "ls", False),
        ('{"name": "exec", "arguments": {"command": "cd C:\\users\nls",}}', "cd C:\\users\nls", True),
    ],
)
def test_a_damaged_call_is_a_call_in_every_api(
    server: ServerProcess, api: str, stream: bool, text: str, expected: str, repaired: bool
) -> None:
    response = ask(server, api, f"<tool_call>{text}</tool_call>", stream=stream)
    assert calls(response, api, stream) == [(NAME, {"command": expected})]
    assert ("repaired" in warning(response, stream)) == repaired
    if not repaired:
        assert not warning(response, stream)


def test_repairs_are_counted_and_can_be_disabled(server: ServerProcess) -> None:
    text = '<tool_call>{"name": "exec", "arguments": {"command": "ls",}}</tool_call>'
    assert calls(ask(server, CHAT, text), CHAT, False)
    response = ask(server, CHAT, text, model="strict")
    assert response.json()["choices"][0]["message"]["content"] == text
    metrics = get(server, "/metrics").text
    assert 'mlx_host_repaired_tool_calls_total{model="qwen3"}' in metrics
    assert 'mlx_host_repaired_tool_calls_total{model="strict"}' not in metrics
    assert 'mlx_host_unparsed_answers_total{model="qwen3"}' not in metrics


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", APIS)
def test_a_call_of_an_unknown_function_is_reported(server: ServerProcess, api: str, stream: bool) -> None:
    response = ask(server, api, '<tool_call>{"name": "execute", "arguments": {}}</tool_call>', stream=stream)
    assert calls(response, api, stream) == [("execute", {})]
    assert "'execute'" in warning(response, stream)


BARE = '{"name": "exec", "arguments": {"command": "ls"}}'


@pytest.mark.parametrize("text", [BARE, f"<tools>\n{BARE}\n</tools>", f"I look.\n{BARE}"])
def test_hermes_reads_calls_without_its_markup(server: ServerProcess, text: str) -> None:
    response = ask(server, CHAT, text, model="hermes")
    assert calls(response, CHAT, False) == [(NAME, {"command": "ls"})]
    assert not warning(response, False)


@pytest.mark.parametrize(
    ("model", "text", "part"),
    [
        ("qwen3", BARE, "--parser hermes or llama3_json"),
        ("qwen3", '[exec(command="ls")]', "--parser hermes or llama3_json"),
        ("hermes", f"```json\n{BARE}\n```", "'hermes'"),
        ("harmony", "<|channel|>commentary to=functions.exec json<|message|>{oops<|call|>", "'harmony'"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_without_markup_is_reported(
    server: ServerProcess, model: str, text: str, part: str, stream: bool
) -> None:
    response = ask(server, CHAT, text, model=model, stream=stream)
    assert calls(response, CHAT, stream) == []
    assert part in warning(response, stream)


def test_a_message_without_its_start_is_separated(server: ServerProcess) -> None:
    text = "<|channel|>analysis<|message|>Need weather.<|end|>assistant<|channel|>final<|message|>It is warm."
    message = ask(server, CHAT, text, model="harmony").json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("It is warm.", "Need weather.")

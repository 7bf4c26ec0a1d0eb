"""Tool calls whose arguments are streamed, as the SDKs' streaming helpers read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from websockets.sync.client import connect

from tests.core.api.open_responses import check_events
from tests.support.client import get, post, sdk
from tests.support.server import ServerProcess, running_server

PARAMETERS = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "text": {"type": "string"}},
    "required": ["path", "text"],
}
FUNCTION = {"name": "write", "parameters": PARAMETERS}
CHAT_TOOLS: Any = [{"type": "function", "function": FUNCTION}]
RESPONSES_TOOLS: Any = [{"type": "function", **FUNCTION}]
MESSAGES_TOOLS: Any = [{"name": "write", "input_schema": PARAMETERS}]
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
APIS = (CHAT, RESPONSES, MESSAGES)

ARGUMENTS = {"path": "a.py", "text": 'print("é🙂")\nend\n'}
HERMES = [
    '<tool_call>\n{"name": "write", "arguments": {"path": "a.py", "text": "print(',
    '\\"é🙂\\")\\nend\\n"}}\n</tool_call>',
]
CODER = [
    "<tool_call>\n<function=write>\n<parameter=path>\na.py\n</parameter>\n<parameter=text>\nprint(",
    '"é🙂")\nend\n\n</parameter>\n</function>\n</tool_call>',
]
HARMONY = [
    '<|channel|>commentary to=functions.write <|constrain|>json<|message|>{"path": "a.py", "text": "print(',
    '\\"é🙂\\")\\nend\\n"}<|call|>',
]
# A reasoning parser and a tool-call parser of another family.
SERIAL = [f"<think>\nHm.\n</think>\n\n{HERMES[0]}", HERMES[1]]
OUTPUTS = {"hermes": HERMES, "qwen3_coder": CODER, "harmony": HARMONY, "serial": SERIAL}
PARSERS = {"serial": 'reasoning_parser = "deepseek_r1"\ntool_call_parser = "hermes"'}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a model for each parser that streams all arguments, and one that does not."""
    models = [(name, PARSERS.get(name, f'parser = "{name}"'), True) for name in OUTPUTS]
    models.append(("plain", 'parser = "hermes"', False))
    tables = [
        f'[[models]]\nbackend = "scripted"\nserved_model_name = "{name}"\n{parsers}\n'
        f"stream_tool_arguments = {str(streams).lower()}\n"
        for name, parsers, streams in models
    ]
    file: Path = tmp_path_factory.mktemp("config") / "models.toml"
    file.write_text("\n".join(tables), encoding="utf-8")
    with running_server("--config", str(file)) as running:
        yield running


@pytest.fixture
def openai_client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with sdk(server) as client:
        yield client


@pytest.fixture
def claude(server: ServerProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="-", max_retries=0) as client:
        yield client


def script(*steps: list[Any]) -> str:
    return json.dumps(list(steps))


def paused(family: str, file: Path) -> str:
    """Return the script of a call whose second half is generated when `file` exists."""
    first, second = OUTPUTS[family]
    return script(["text", first], ["until", str(file)], *(["text", char] for char in second))


def begun(fragments: list[str]) -> bool:
    return "print(" in "".join(fragments)


@pytest.mark.parametrize("family", OUTPUTS)
def test_chat_completions(openai_client: openai.OpenAI, family: str, tmp_path: Path) -> None:
    file = tmp_path / "continue"
    fragments: list[str] = []
    with openai_client.chat.completions.stream(
        model=family, messages=[{"role": "user", "content": paused(family, file)}], tools=CHAT_TOOLS
    ) as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                fragments.append(event.arguments_delta)
                if begun(fragments):
                    file.touch()
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("write", ARGUMENTS)
    assert call.id.startswith("call_")
    assert call.function.arguments == "".join(fragments)


@pytest.mark.parametrize("family", OUTPUTS)
def test_responses(openai_client: openai.OpenAI, family: str, tmp_path: Path) -> None:
    file = tmp_path / "continue"
    fragments: list[str] = []
    with openai_client.responses.stream(model=family, input=paused(family, file), tools=RESPONSES_TOOLS) as stream:
        for event in stream:
            if event.type == "response.function_call_arguments.delta":
                fragments.append(event.delta)
                assert event.snapshot == "".join(fragments)
                if begun(fragments):
                    file.touch()
        response = stream.get_final_response()
    call = response.output[-1]
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments), call.status) == ("write", ARGUMENTS, "completed")
    assert call.arguments == "".join(fragments)
    assert response.status == "completed"


@pytest.mark.parametrize("family", OUTPUTS)
def test_messages(claude: anthropic.Anthropic, family: str, tmp_path: Path) -> None:
    file = tmp_path / "continue"
    fragments: list[str] = []
    with claude.messages.stream(
        model=family,
        max_tokens=1000,
        messages=[{"role": "user", "content": paused(family, file)}],
        tools=MESSAGES_TOOLS,
    ) as stream:
        for event in stream:
            if event.type == "input_json":
                fragments.append(event.partial_json)
                if begun(fragments):
                    file.touch()
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    [block] = [block for block in message.content if block.type == "tool_use"]
    assert (block.name, block.input) == ("write", ARGUMENTS)
    assert json.loads("".join(fragments)) == ARGUMENTS


def ask(server: ServerProcess, api: str, model: str, content: str, *, stream: bool = True) -> httpx2.Response:
    body: dict[str, Any] = {"model": model, "stream": stream}
    if api == RESPONSES:
        body |= {"input": content, "tools": RESPONSES_TOOLS}
    else:
        tools = MESSAGES_TOOLS if api == MESSAGES else CHAT_TOOLS
        body |= {"messages": [{"role": "user", "content": content}], "tools": tools, "max_tokens": 10_000}
    response = post(server, body, api)
    assert response.status_code == 200, response.text
    return response


def events(text: str) -> list[Any]:
    """Return the parsed data of a stream's events, of any API."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def streamed(response: httpx2.Response) -> tuple[list[str], str]:
    """Return the fragments of all arguments in a stream, and the reason why it ended."""
    fragments, reason = [], ""
    for event in events(response.text):
        match event:
            case {"type": "response.function_call_arguments.delta", "delta": fragment}:
                fragments.append(fragment)
            case {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": fragment}}:
                fragments.append(fragment)
            case {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": fragment}}]}}]}:
                fragments.append(fragment)
            case {"choices": [{"finish_reason": str(found)}]} | {"delta": {"stop_reason": str(found)}}:
                reason = found
            case {"type": str(found)} if found in ("response.completed", "response.incomplete"):
                reason = found
    return [fragment for fragment in fragments if fragment], reason


@pytest.mark.parametrize("api", APIS)
def test_a_call_that_is_cut_off_keeps_its_fragments(server: ServerProcess, api: str) -> None:
    content = script(*(["text", char] for char in HERMES[0]), ["finish", "length"])
    response = ask(server, api, "hermes", content)
    fragments, reason = streamed(response)
    assert "".join(fragments) == '{"path": "a.py", "text": "print('
    assert len(fragments) > 10
    assert reason in ("length", "model_context_window_exceeded", "response.incomplete")
    if api == RESPONSES:
        check_events(events(response.text))
        [item] = [event["item"] for event in events(response.text) if event["type"] == "response.output_item.done"]
        assert item["status"] == "incomplete"
        stored = get(server, f"{RESPONSES}/{events(response.text)[-1]['response']['id']}").json()
        assert stored["output"] == [item]


@pytest.mark.parametrize("api", APIS)
def test_a_malformed_call_is_completed_and_reported(server: ServerProcess, api: str) -> None:
    text = '<tool_call>\n{"name": "write", "arguments": {"path": "a.py", "text": ["x"] oops}}</tool_call> So.'
    response = ask(server, api, "hermes", script(*(["text", char] for char in text)))
    fragments, reason = streamed(response)
    assert json.loads("".join(fragments)) == {"path": "a.py", "text": ["x"]}
    assert reason in ("tool_calls", "tool_use", "response.completed")
    assert "'write'" in next(line for line in response.text.splitlines() if line.startswith(": "))


@pytest.mark.parametrize("api", APIS)
def test_a_malformed_call_is_text_by_default(server: ServerProcess, api: str) -> None:
    text = '<tool_call>\n{"name": "write", "arguments": {"path": "a.py", "text": ["x"] oops}}</tool_call> So.'
    fragments, reason = streamed(ask(server, api, "plain", script(*(["text", char] for char in text))))
    assert fragments == []
    assert reason in ("stop", "end_turn", "response.completed")


@pytest.mark.parametrize("api", APIS)
def test_arguments_are_not_streamed_by_default(server: ServerProcess, api: str) -> None:
    text = "".join(HERMES)
    fragments, reason = streamed(ask(server, api, "plain", script(*(["text", char] for char in text))))
    assert [json.loads(fragment) for fragment in fragments] == [ARGUMENTS]
    assert reason in ("tool_calls", "tool_use", "response.completed")


@pytest.mark.parametrize("api", APIS)
def test_parallel_calls_and_text(server: ServerProcess, api: str) -> None:
    text = f"I write.\n{''.join(HERMES)}\n{''.join(HERMES)}"
    plain = ask(server, api, "hermes", script(*(["text", char] for char in text)), stream=False).json()
    response = ask(server, api, "hermes", script(*(["text", char] for char in text)))
    fragments, _ = streamed(response)
    assert "".join(fragments) == json.dumps(ARGUMENTS, ensure_ascii=False) * 2
    assert len(fragments) > 20
    if api == RESPONSES:
        last = events(response.text)[-1]["response"]
        assert [kind["type"] for kind in last["output"]] == [kind["type"] for kind in plain["output"]]
        assert [item.get("arguments") for item in last["output"]] == [i.get("arguments") for i in plain["output"]]
    elif api == CHAT:
        contents = [choice["delta"].get("content") for event in events(response.text) for choice in event["choices"]]
        assert "".join(content or "" for content in contents) == plain["choices"][0]["message"]["content"]
        # Only the first chunk has no text.
        assert contents.count("") == 1
        indexes = [
            call["index"]
            for event in events(response.text)
            if isinstance(event, dict) and event["choices"]
            for call in event["choices"][0]["delta"].get("tool_calls", ())
            if "id" in call
        ]
        assert indexes == [0, 1]


def test_a_single_call_ends_the_output_after_its_last_fragment(server: ServerProcess) -> None:
    text = "".join(HERMES) * 2
    body = {
        "model": "hermes",
        "stream": True,
        "parallel_tool_calls": False,
        "messages": [{"role": "user", "content": script(*(["text", char] for char in text))}],
        "tools": CHAT_TOOLS,
    }
    fragments, reason = streamed(post(server, body, CHAT))
    assert json.loads("".join(fragments)) == ARGUMENTS
    assert reason == "tool_calls"


def test_responses_over_websocket(server: ServerProcess) -> None:
    content = script(*(["text", char] for char in "".join(HERMES)))
    received: list[dict[str, Any]] = []
    with connect(server.url.replace("http", "ws") + RESPONSES) as socket:
        body = {"type": "response.create", "model": "hermes", "input": content, "tools": RESPONSES_TOOLS}
        socket.send(json.dumps(body))
        while not received or received[-1]["type"] != "response.completed":
            received.append(json.loads(socket.recv(timeout=60)))
    fragments = [event["delta"] for event in received if event["type"] == "response.function_call_arguments.delta"]
    assert json.loads("".join(fragments)) == ARGUMENTS
    assert len(fragments) > 10


@pytest.mark.parametrize("end", ['ah"}}</tool_call>', "ah"], ids=["complete", "cut off"])
def test_the_input_of_a_custom_tool_is_sent_at_its_end(server: ServerProcess, end: str) -> None:
    text = f'<tool_call>{{"name": "shout", "arguments": {{"input": "H{end}'
    reason = "stop" if end.endswith(">") else "length"
    content = script(*(["text", char] for char in text), ["finish", reason])
    body = {"model": "hermes", "stream": True, "input": content, "tools": [{"type": "custom", "name": "shout"}]}
    found = events(post(server, body, RESPONSES).text)
    check_events(found)
    [delta] = [event for event in found if event["type"] == "response.custom_tool_call_input.delta"]
    [item] = found[-1]["response"]["output"]
    assert (item["type"], item["input"], delta["delta"]) == ("custom_tool_call", "Hah", "Hah")
    assert item["status"] == ("completed" if reason == "stop" else "incomplete")

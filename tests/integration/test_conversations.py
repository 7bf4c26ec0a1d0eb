"""Conversations as clients keep them after a change of model, a cut text or a tool without output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.plugins.text import templates
from tests.support.client import CHAT, error_of, post
from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_llama import write_tiny_llama

CONTEXT_LENGTH = 512
# Half of an emoji, as JavaScript clients leave it when they cut a text.
HALF = "\\ud83d"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"), context_length=CONTEXT_LENGTH)
    template = folder / "template.jinja"
    template.write_text(
        templates.ARGUMENTS_AS_MAPPING
        + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    )
    command = ["--backend", "lm", "--model", str(folder), "--chat-template-file", str(template), *FAST_BLAS]
    with running_server(*command, "--tool-call-parser", "qwen3_coder") as running:
        yield running


def prompt(server: ServerProcess, messages: list[Any], **body: Any) -> str:
    """The prompt that a conversation renders to."""
    tokens = post(server, {"messages": messages, **body}, "/tokenize").json()["tokens"]
    text: str = post(server, {"tokens": tokens}, "/detokenize").json()["prompt"]
    return text


def history(*results: dict[str, Any]) -> list[dict[str, Any]]:
    calls = [
        {"id": f"c{name}", "type": "function", "function": {"name": "run", "arguments": json.dumps({"command": name})}}
        for name in "abc"
    ]
    return [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", **result} for result in results),
    ]


def result(name: str, content: Any = "") -> dict[str, Any]:
    return {"tool_call_id": f"c{name}", "content": content or f"result of {name}"}


def test_tool_results_are_put_in_the_order_of_their_calls(server: ServerProcess) -> None:
    ordered = prompt(server, history(result("a"), result("b"), result("c")))
    assert ordered.index("result of a") < ordered.index("result of b") < ordered.index("result of c")
    assert prompt(server, history(result("c"), result("a"), result("b"))) == ordered
    # A result of no call stays behind those of the calls; later runs are ordered by their own calls.
    stray = {"role": "tool", "tool_call_id": "other", "content": "stray"}
    twice = [*history(result("b"), result("a")), stray, *history(result("c"), result("b"))]
    text = prompt(server, twice)
    found = sorted((text.index(part), part) for part in ("result of a", "result of b", "stray", "result of c"))
    assert [part for _, part in found] == ["result of a", "result of b", "stray", "result of c"]
    assert text.rindex("result of b") < text.rindex("result of c")


@pytest.mark.parametrize("missing", [{"content": None}, {"content": ""}, {"content": []}, {}])
def test_a_tool_may_have_no_output(server: ServerProcess, missing: dict[str, Any]) -> None:
    messages = history({"tool_call_id": "ca", **missing})
    assert post(server, {"messages": messages, "max_tokens": 1}).status_code == 200
    assert prompt(server, messages) == prompt(server, history({"tool_call_id": "ca", "content": ""}))
    call = {"type": "function_call", "call_id": "c", "name": "run", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": missing.get("content")}
    body = {"input": [call, output], "max_output_tokens": 16}
    assert post(server, body, "/v1/responses").status_code == 200
    use = {"type": "tool_use", "id": "c", "name": "run", "input": {}}
    blocks = [{"type": "tool_result", "tool_use_id": "c", **missing}]
    turns = [{"role": "user", "content": "Go."}, {"role": "assistant", "content": [use]}]
    body = {"messages": [*turns, {"role": "user", "content": blocks}], "max_tokens": 1}
    assert post(server, body, "/v1/messages").status_code == 200


def test_other_messages_without_content_are_rejected(server: ServerProcess) -> None:
    error = error_of(post(server, {"messages": [{"role": "user", "content": None}]}), 400)
    assert error["param"] == "messages[0].content"


BODIES = {
    CHAT: '{"messages": [{"role": "user", "content": "a%s"}], "max_tokens": 1, "stream": %s}',
    "/v1/completions": '{"prompt": "a%s", "max_tokens": 1, "stream": %s}',
    "/v1/responses": '{"input": "a%s", "max_output_tokens": 16, "stream": %s}',
    "/v1/messages": '{"messages": [{"role": "user", "content": "a%s"}], "max_tokens": 1, "stream": %s}',
    "/v1/embeddings": '{"input": "a%s", "x": %s}',
    "/tokenize": '{"prompt": "a%s", "x": %s}',
}


def raw(server: ServerProcess, path: str, body: str) -> httpx2.Response:
    headers = {"content-type": "application/json"}
    return httpx2.post(f"{server.url}{path}", content=body.encode(), headers=headers, timeout=60, verify=False)


@pytest.mark.parametrize("path", BODIES)
def test_an_unpaired_surrogate_in_the_body_is_replaced_and_reported(server: ServerProcess, path: str) -> None:
    for stream in ("false", "true"):
        cut = raw(server, path, BODIES[path] % (HALF, stream))
        assert cut.status_code == 200, cut.text
        assert "U+FFFD" in cut.headers["x-mlx-host-warning"]
        whole = raw(server, path, BODIES[path] % ("\\ud83d\\ude00", stream))
        assert "x-mlx-host-warning" not in whole.headers
    replaced = post(server, {"prompt": "a\ufffd"}, "/tokenize").json()["tokens"]
    assert raw(server, "/tokenize", BODIES["/tokenize"] % (HALF, "1")).json()["tokens"] == replaced


def test_an_unpaired_surrogate_is_replaced_in_names_and_nested_values(server: ServerProcess) -> None:
    tool = '{"type": "function", "function": {"name": "f%s", "parameters": {"properties": {"%s": {"enum": ["%s"]}}}}}'
    tools = tool % (HALF, HALF, HALF)
    body = f'{{"messages": [{{"role": "user", "content": "a"}}], "max_tokens": 1, "tools": [{tools}]}}'
    assert raw(server, CHAT, body).status_code == 200


def test_an_unpaired_surrogate_in_the_arguments_of_a_call_is_replaced(server: ServerProcess) -> None:
    for arguments in ('{"command": "a\\ud83d"}', '{"\\udc00": ["\\\\ud83d", "\\ud83d\\ude00"]}'):
        messages = history(result("a"))
        messages[1]["tool_calls"][0]["function"]["arguments"] = arguments
        response = post(server, {"messages": messages, "max_tokens": 1})
        assert response.status_code == 200, response.text
        assert "\ufffd" in prompt(server, messages)
    items = [{"type": "function_call", "call_id": "c", "name": "run", "arguments": '{"command": "\\udead"}'}]
    assert post(server, {"input": items, "max_output_tokens": 16}, "/v1/responses").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"reasoning_effort": "none"}),
        (CHAT, {"chat_template_kwargs": {"reasoning_effort": "none"}}),
        (CHAT, {"enable_thinking": "false"}),
        (CHAT, {"chat_template_kwargs": {"enable_thinking": "false"}}),
        (CHAT, {"chat_template_kwargs": {"enable_thinking": 0}}),
        ("/v1/responses", {"reasoning": {"effort": "none"}}),
        ("/v1/responses", {"chat_template_kwargs": {"enable_thinking": "no"}}),
        ("/v1/messages", {"output_config": {"effort": "none"}}),
        ("/v1/messages", {"chat_template_kwargs": {"enable_thinking": "off"}}),
        ("/tokenize", {"chat_template_kwargs": {"enable_thinking": "False"}}),
    ],
)
def test_thinking_is_disabled_by_every_spelling(server: ServerProcess, path: str, body: dict[str, Any]) -> None:
    def prompt_tokens(more: dict[str, Any]) -> int:
        messages = {"messages": [{"role": "user", "content": "Hi"}]}
        asked = {"input": "Hi", "max_output_tokens": 16} if path == "/v1/responses" else {**messages, "max_tokens": 1}
        response = post(server, {**asked, **more}, path)
        assert response.status_code == 200, response.text
        usage = response.json().get("usage", {})
        # Anthropic's API reports the cached tokens separately.
        fields = ("prompt_tokens", "input_tokens", "cache_read_input_tokens")
        count: int = sum(usage.get(field, 0) for field in fields) or response.json()["count"]
        return count

    assert prompt_tokens(body) > prompt_tokens({})
    thinking = {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "none"}}
    assert prompt_tokens(thinking) == prompt_tokens({})


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages", "/tokenize"])
def test_a_switch_that_is_not_a_boolean_is_rejected(server: ServerProcess, path: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "input": "Hi", "max_tokens": 1}
    response = post(server, {**body, "chat_template_kwargs": {"enable_thinking": "maybe"}}, path)
    assert response.status_code == 400
    assert "enable_thinking" in response.json()["error"]["message"]


def test_a_prompt_that_fills_the_context_is_rejected_as_too_long(server: ServerProcess) -> None:
    prompts = {length: [9] * length for length in (CONTEXT_LENGTH - 1, CONTEXT_LENGTH, CONTEXT_LENGTH + 1)}
    fits = post(server, {"prompt": prompts[CONTEXT_LENGTH - 1], "max_tokens": 5}, "/v1/completions").json()
    assert fits["usage"]["completion_tokens"] == 1
    for stream in (False, True):
        for length in (CONTEXT_LENGTH, CONTEXT_LENGTH + 1):
            body = {"prompt": prompts[length], "max_tokens": 5, "stream": stream}
            assert error_of(post(server, body, "/v1/completions"), 400)["code"] == "context_length_exceeded"
    # Without output, for example to score the prompt, it may fill the context.
    scored = post(server, {"prompt": prompts[CONTEXT_LENGTH], "max_tokens": 0}, "/v1/completions")
    assert scored.status_code == 200, scored.text

"""Markup in the assistant messages of a request is parsed before the prompt is rendered."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_host._host.history import with_parsed_history
from mlx_host._host.parser_selection import ParserSelection
from mlx_host._plugins.manager import Plugins
from mlx_host.requests import ChatRequest, Json, TokenizeRequest

PLUGINS = Plugins({})
EXEC: Json = {
    "type": "function",
    "function": {
        "name": "exec",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    },
}
USER = {"role": "user", "content": "<think>"}


def parsed(parser: str, message: Json, *after: Json, tools: tuple[Json, ...] = (EXEC,)) -> Any:
    """Return an assistant message before others as it is rendered."""
    family = PLUGINS.parser(parser)
    request = ChatRequest(id="r", model="m", messages=[USER, {"role": "assistant", **message}, *after], tools=tools)
    selection = ParserSelection(family, family)
    changed = with_parsed_history(request, selection)
    counted = with_parsed_history(TokenizeRequest(id="r", model="m", prompt=request), selection)
    assert isinstance(changed, ChatRequest)
    assert isinstance(counted, TokenizeRequest)
    assert isinstance(counted.prompt, ChatRequest)
    shown = [changed.messages, counted.prompt.messages]
    for messages in shown:
        for call in messages[1].get("tool_calls", ()):
            call["id"] = ""
    assert shown[0] == shown[1]
    assert changed.messages[0] == USER
    return changed.messages[1]


ANALYSIS = "<|channel|>analysis<|message|>Hm.<|end|>"
LS = {"id": "", "type": "function", "function": {"name": "exec", "arguments": '{"command":"ls"}'}}
CALL = '<|channel|>commentary to=functions.exec <|constrain|>json<|message|>{"command":"ls"'


@pytest.mark.parametrize(
    ("parser", "content", "expected"),
    [
        (
            "harmony",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi.",
            "Hm.|Hi.",
        ),
        ("harmony", "Hi.<|end|>", "|Hi."),
        ("harmony", "A `<|channel|>` is a token.", "|A ` ` is a token."),
        ("qwen3", "<think>\nHm.\n</think>\n\nHi.", "Hm.|Hi."),
        ("qwen3", "Hm.\n</think>\n\nHi.", "Hm.|Hi."),
        ("qwen3", "Write `<think>` and <b>.", "|Write `<think>` and <b>."),
        ("mistral", "[THINK]Hm.[/THINK]Hi.", "Hm.|Hi."),
        ("gemma4", "<|channel>thought\nHm.<channel|>Hi.", "Hm.|Hi."),
    ],
)
def test_reasoning_and_content(parser: str, content: str, expected: str) -> None:
    reasoning, _, text = expected.partition("|")
    expected_message = {"role": "assistant", "content": text, **({"reasoning_content": reasoning} if reasoning else {})}
    assert parsed(parser, {"content": content}, USER) == expected_message


@pytest.mark.parametrize(
    ("parser", "content"),
    [
        ("harmony", f"{CALL}}}<|call|>"),
        ("harmony", f"{CALL}<|call|>"),
        ("qwen3", '<tool_call>\n{"name": "exec", "arguments": {"command":"ls"}}\n</tool_call>'),
        ("mistral", '[TOOL_CALLS]exec[ARGS]{"command":"ls"}'),
    ],
)
def test_calls(parser: str, content: str) -> None:
    message = parsed(parser, {"content": content}, USER)
    assert message == {"role": "assistant", "content": "", "tool_calls": [LS]}


def test_what_cannot_be_parsed_is_text_without_markers() -> None:
    message = parsed("harmony", {"content": CALL}, USER)
    assert message == {"role": "assistant", "content": 'commentary to=functions.exec  json {"command":"ls"'}
    message = parsed("harmony", {"content": f"{CALL}}}<|call|>"}, USER, tools=())
    assert "<|" not in message["content"]


def test_removing_a_marker_makes_no_other_one() -> None:
    message = parsed("harmony", {"content": "A `<|chan<|end|>nel|>` is a token."}, USER)
    assert "<|channel|>" not in message["content"]


def test_reasoning_fields_and_parts() -> None:
    parts = [{"type": "text", "text": "Hi.<|return|>"}]
    message = parsed("harmony", {"content": parts, "reasoning_content": "<|channel|>analysis<|message|>Hm."})
    assert message == {"role": "assistant", "content": "Hi.", "reasoning_content": "analysis Hm."}


def test_the_beginning_of_the_output_is_unchanged() -> None:
    message = {"role": "assistant", "content": "<think>\nHm."}
    assert parsed("qwen3", message) == message

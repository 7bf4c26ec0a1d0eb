"""Anthropic's messages are converted to OpenAI's messages."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_host_messages.content import Conversation
from mlx_host_messages.schema import AnthropicMessage
from mlx_host_messages.system_prompt_normalizer import SystemPromptNormalizer

IMAGE = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "ä"}}
TOOL_CALL = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"a": "ä"}'}}
LAST_MESSAGE = {"role": "user", "content": "?"}


def text(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **fields}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (("user", "Hi"), [{"role": "user", "content": "Hi"}]),
        (("user", [text("a", cache_control={"type": "ephemeral"}), text("b")]), [{"role": "user", "content": "a\nb"}]),
        (("user", []), [{"role": "user", "content": ""}]),
        (
            ("user", [text("a"), {"type": "image", "source": IMAGE}]),
            [
                {
                    "role": "user",
                    "content": [text("a"), {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
                }
            ],
        ),
        (
            ("user", [{"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}]),
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}],
                }
            ],
        ),
        (
            ("user", [{"type": "document", "source": {"type": "text", "data": "d"}}, text("?")]),
            [{"role": "user", "content": "d\n?"}],
        ),
        (
            ("user", [{"type": "search_result", "title": "t", "source": "s", "content": [text("c")]}]),
            [{"role": "user", "content": "t\ns\nc"}],
        ),
        (
            (
                "user",
                [
                    {"type": "tool_result", "tool_use_id": "1", "content": "one"},
                    {"type": "tool_result", "tool_use_id": "2", "content": [text("t"), text("wo")], "is_error": True},
                    {"type": "tool_result", "tool_use_id": "3"},
                    text("and?"),
                ],
            ),
            [
                {"role": "tool", "tool_call_id": "1", "content": "one"},
                {"role": "tool", "tool_call_id": "2", "content": "Error:\nt\nwo"},
                {"role": "tool", "tool_call_id": "3", "content": ""},
                {"role": "user", "content": "and?"},
            ],
        ),
        (("assistant", "Yes."), [{"role": "assistant", "content": "Yes."}]),
        (
            (
                "assistant",
                [
                    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    text("Let me see."),
                    TOOL_USE,
                ],
            ),
            [
                {
                    "role": "assistant",
                    "content": "Let me see.",
                    "reasoning_content": "Hm.",
                    "tool_calls": [TOOL_CALL],
                }
            ],
        ),
        (("system", [text("New rules."), text("Two.")]), [{"role": "system", "content": "New rules.\nTwo."}]),
    ],
)
def test_messages_are_converted(message: tuple[Any, Any], expected: list[Any]) -> None:
    role, content = message
    messages = [AnthropicMessage(role=role, content=content), AnthropicMessage.model_validate(LAST_MESSAGE)]
    assert Conversation(None, messages, str).messages == [*expected, LAST_MESSAGE]


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (None, []),
        ("", []),
        ("Be brief.", ["Be brief."]),
        ([text("a"), text("b")], ["a\nb"]),
        ([text("x-anthropic-billing-header: cc_version=2.1; cch=1;"), text("You are.")], ["You are."]),
        ([text("x-anthropic-billing-header: cc_version=2.1; cch=1;")], []),
    ],
)
def test_the_system_prompt_is_the_first_message(system: Any, expected: list[str]) -> None:
    conversation = Conversation(system, [AnthropicMessage.model_validate(LAST_MESSAGE)], SystemPromptNormalizer())
    assert conversation.messages == [*({"role": "system", "content": text} for text in expected), LAST_MESSAGE]


@pytest.mark.parametrize(
    "line",
    [
        "x-anthropic-billing-header: cc_version=2.1.87.f0c; cc_entrypoint=cli; cch=00a3f;",
        "X-Anthropic-Billing-Header: other",
        "<system_warning>token usage: 1,234 / 200,000</system_warning>",
        "<system_warning>Token usage: 1234/200000; 198766 remaining</system_warning>",
        "<total_tokens>198766 tokens left</total_tokens>",
    ],
)
def test_lines_that_change_in_every_request_are_removed(line: str) -> None:
    assert SystemPromptNormalizer()(f"You are.\n{line}\nBe brief.") == "You are.\nBe brief."
    assert SystemPromptNormalizer()(f"{line}\nBe brief.") == "Be brief."
    assert SystemPromptNormalizer()(f"You are.\n{line}") == "You are.\n"
    assert SystemPromptNormalizer()(line) == ""


@pytest.mark.parametrize("text", ["Token usage: 1234/200000; 198766 remaining", "token usage: 1,234 / 200,000\n"])
def test_a_text_that_is_only_a_token_count_is_removed(text: str) -> None:
    assert SystemPromptNormalizer()(text) == ""


@pytest.mark.parametrize(
    "line",
    [
        "Explain the x-anthropic-billing-header: what is it?",
        "Token usage: be careful with it.",
        "Token usage: 5/10",
        "<system_warning>Token usage: 1/2; 1 remaining",
        "<total_tokens>1</total_tokens> is what you see.",
        "",
    ],
)
def test_other_lines_are_kept(line: str) -> None:
    assert SystemPromptNormalizer()(f"You are.\n{line}\nBe brief.\n") == f"You are.\n{line}\nBe brief.\n"

"""Anthropic's message and its stream events are built from the events of a chat reply."""

from __future__ import annotations

import pytest
from mlx_host.api import ChatEvent, ChoiceCompleted, ChoiceDelta, OutputCompleted, VisiblePart
from mlx_host.events import Started
from mlx_host.parsing import Content, Reasoning, ToolCall
from mlx_host_messages.message_builder import AnthropicMessageBuilder

from tests.support.copy_counting_str import CopyCountingStr

END: list[ChatEvent] = [ChoiceCompleted(0, "stop"), OutputCompleted(3, 0, 1)]


def builder() -> AnthropicMessageBuilder:
    return AnthropicMessageBuilder("msg_1", "m", 100)


def test_blocks_open_and_close_one_after_another() -> None:
    message = builder()
    call = ToolCall("f", "{}", "", "call_1")
    parts: list[VisiblePart] = [Reasoning("a"), Reasoning("b"), Content("c"), call, call, Content("d")]
    events = [*message.add([Started(prompt_tokens=3), ChoiceDelta(0, parts), *END]), *message.complete()]
    one_delta = ("content_block_start", "content_block_delta", "content_block_stop")
    # Two thinking deltas and the signature.
    thinking = (one_delta[0], *[one_delta[1]] * 3, one_delta[2])
    assert [event["type"] for event in events] == [
        *("message_start", *thinking, *one_delta * 4),
        *("message_delta", "message_stop"),
    ]
    assert [block["type"] for block in message.message["content"]] == ["thinking", "text", *["tool_use"] * 2, "text"]
    assert message.message["content"][0]["thinking"] == "ab"


def test_a_second_start_is_an_error() -> None:
    message = builder()
    message.add([Started(prompt_tokens=3)])
    with pytest.raises(KeyError):
        message.add([Started(prompt_tokens=3)])


def test_text_deltas_are_joined_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CopyCountingStr, "copied", 0)
    message = builder()
    message.add(
        [Started(prompt_tokens=3), *(ChoiceDelta(0, [Content(CopyCountingStr("x" * 10))]) for _ in range(1000))]
    )
    message.complete()
    assert message.message["content"][0]["text"] == "x" * 10_000
    assert CopyCountingStr.copied <= 2 * 10_000

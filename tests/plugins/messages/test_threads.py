"""Threads: the server stores the conversation, and requests send their new messages only."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from mlx_host_messages.schema import AnthropicMessage, MessagesBody
from mlx_host_messages.threads import ThreadNotFoundError, ThreadStore

from tests.support.client import script, text_script
from tests.support.server import running_server

SHOW = script(["request", "messages"])[0]
TOOL: Any = {"name": "f", "input_schema": {"type": "object"}}


def text_of(message: Any) -> str:
    (block,) = message.content
    assert block.type == "text"
    return str(block.text)


@pytest.mark.parametrize("stream", [False, True])
def test_a_thread_sends_its_new_messages_only(client: anthropic.Anthropic, stream: bool) -> None:
    thread = client.beta.messages.thread(model="m", max_tokens=9, system="Be brief.", tools=[TOOL])

    def send(message: Any) -> str:
        if not stream:
            return text_of(thread.send(message))
        with thread.stream(message) as events:
            return text_of(events.get_final_message())

    (hello,) = text_script("Hello.")
    assert send(hello) == "Hello."
    assert thread.previous_message_id is not None
    assert json.loads(send(SHOW)) == [
        {"role": "system", "content": "Be brief."},
        hello,
        {"role": "assistant", "content": "Hello."},
        SHOW,
    ]
    (tool,) = json.loads(send(script(["request", "tools"])[0]))
    assert tool["function"]["name"] == "f"


def test_a_lost_thread_is_sent_again(client: anthropic.Anthropic) -> None:
    options = ("--messages-thread-store-entries", "0")
    with (
        running_server("--backend", "scripted", *options) as server,
        anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as other,
    ):
        missing: Any = {"type": "continue", "previous_message_id": "msg_0"}
        messages: Any = text_script("a")
        with pytest.raises(anthropic.NotFoundError) as error:
            other.beta.messages.create(model="m", max_tokens=9, messages=messages, thread=missing)
        assert isinstance(error.value.body, dict)
        assert error.value.body["error"]["details"] == {"error_code": "thread_not_found"}
        thread = other.beta.messages.thread(model="m", max_tokens=9)
        thread.send(messages[0])
        assert len(json.loads(text_of(thread.send(SHOW)))) == 3


def test_the_least_recently_used_turns_are_evicted() -> None:
    store = ThreadStore(2, 10_000)
    question = [AnthropicMessage(role="user", content="q")]

    def body(**thread: Any) -> MessagesBody:
        return MessagesBody.model_validate({"max_tokens": 9, "messages": question, "thread": thread})

    for id in ("a", "b"):
        store.add(body(type="create"), question, {"id": id, "content": []})
    store.resolve(body(type="continue", previous_message_id="a"))
    store.add(body(type="create"), question, {"id": "c", "content": [{"type": "text", "text": "x" * 100}]})
    assert len(store.resolve(body(type="continue", previous_message_id="a")).messages) == 3
    with pytest.raises(ThreadNotFoundError):
        store.resolve(body(type="continue", previous_message_id="b"))
    store.add(body(type="create"), question, {"id": "d", "content": "x" * 10_000})
    for id in ("a", "c", "d"):
        with pytest.raises(ThreadNotFoundError):
            store.resolve(body(type="continue", previous_message_id=id))

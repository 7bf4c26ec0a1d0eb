"""/v1/conversations, and responses that belong to a conversation."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from mlx_host._apis.responses.conversation_store import StoreLimits
from mlx_host._apis.responses.store import ResponseStore, StoredResponse

from tests.core.api.test_responses import RESPONSES, script, text_script
from tests.support.client import error_of, post
from tests.support.server import ServerProcess

CONVERSATIONS = "/v1/conversations"


def test_a_conversation_and_its_items(client: openai.OpenAI) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "Go on."}], metadata={"a": "b"})
    assert (conversation.object, conversation.metadata) == ("conversation", {"a": "b"})
    assert conversation.id.startswith("conv_")
    assert client.conversations.retrieve(conversation.id) == conversation
    assert client.conversations.update(conversation.id, metadata={"c": "d"}).metadata == {"c": "d"}
    added: Any = client.conversations.items.create(
        conversation.id, items=[{"role": "assistant", "content": "1"}, {"role": "user", "content": "2"}]
    )
    assert [item.role for item in added.data] == ["assistant", "user"]
    listed: Any = list(client.conversations.items.list(conversation.id, order="asc", limit=1))
    assert [item.content[0].text for item in listed] == ["Go on.", "1", "2"]
    one: Any = client.conversations.items.retrieve(listed[1].id, conversation_id=conversation.id)
    assert one.content[0].text == "1"
    client.conversations.items.delete(one.id, conversation_id=conversation.id)
    assert len(list(client.conversations.items.list(conversation.id))) == 2
    for call in (client.conversations.items.retrieve, client.conversations.items.delete):
        with pytest.raises(openai.NotFoundError):
            call(one.id, conversation_id=conversation.id)
    assert client.conversations.delete(conversation.id).deleted
    for missing in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
        with pytest.raises(openai.NotFoundError):
            missing(conversation.id)


@pytest.mark.parametrize("stream", [False, True])
def test_responses_add_to_their_conversation(client: openai.OpenAI, server: ServerProcess, stream: bool) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "Go on."}])
    for named in (conversation.id, {"id": conversation.id}):
        body = {"input": text_script("yes"), "conversation": named, "stream": stream}
        response = post(server, body, RESPONSES)
        assert response.status_code == 200
    plain: Any = client.responses.create(model="m", input=text_script("no"), conversation=conversation.id)
    assert plain.conversation.id == conversation.id
    items: Any = list(client.conversations.items.list(conversation.id, order="asc"))
    texts = [item.content[0].text for item in items]
    assert texts == ["Go on.", *[text_script("yes"), "yes"] * 2, text_script("no"), "no"]
    # A rejected or failed response adds nothing.
    for steps in (script(["reject", "no"]), script(["text", "x"], ["fail", "no"])):
        assert post(server, {"input": steps, "conversation": conversation.id}, RESPONSES).status_code >= 400
    assert len(list(client.conversations.items.list(conversation.id))) == len(texts)
    counted = client.responses.input_tokens.count(model="m", input=text_script("a"), conversation=conversation.id)
    assert counted.input_tokens == 1


def test_unknown_conversations_and_invalid_bodies(server: ServerProcess) -> None:
    error = error_of(post(server, {"input": "x", "conversation": "conv_none"}, RESPONSES), 404)
    assert (error["code"], error["param"]) == ("conversation_not_found", "conversation")
    for body, param in (
        ({"items": "x"}, "items"),
        ({"items": [{"role": "wizard", "content": "x"}]}, "input"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ):
        assert error_of(post(server, body, CONVERSATIONS), 400)["param"] == param
    assert error_of(post(server, {"items": []}, f"{CONVERSATIONS}/conv_none/items"), 404)["code"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResponseStore]:
    store = ResponseStore(tmp_path / "responses.db", StoreLimits(2, 1000, 100.0), iter(range(1, 10**6)).__next__)
    yield store
    store.close()


def item(id: str, text: str = "x") -> dict[str, Any]:
    return {"id": id, "type": "message", "text": text}


def test_the_least_recently_used_conversations_are_evicted(store: ResponseStore) -> None:
    conversations = store.conversations
    for name in ("a", "b"):
        assert conversations.create(name, {}, [item(f"msg_{name}")])
    assert conversations.get("a") is not None
    assert conversations.create("c", {}, [])
    assert [conversations.get(name) is not None for name in ("a", "b", "c")] == [True, False, True]
    assert conversations.items("b") == []
    assert store.items(["msg_a", "msg_b"]) == {"msg_a": item("msg_a")}
    # The size of responses and conversations is limited together.
    response: dict[str, Any] = {"id": "resp_1", "previous_response_id": None, "output": []}
    assert store.put(StoredResponse(response, [item("in", "y" * 700)]))
    assert conversations.append("a", [item("msg_2", "y" * 400)])
    assert store.get("resp_1") is None
    assert not conversations.append("a", [item("msg_3", "y" * 2000)])
    assert conversations.get("a") is None
    assert not conversations.append("none", [])


def test_deleted_items_free_their_size(store: ResponseStore, tmp_path: Path) -> None:
    conversations = store.conversations
    conversations.create("a", {}, [item("msg_1", "y" * 600), item("msg_2")])
    assert conversations.delete_item("a", "msg_1")
    assert not conversations.delete_item("a", "msg_1")
    assert conversations.append("a", [item("msg_3", "y" * 600)])
    assert conversations.delete("a")
    with sqlite3.connect(tmp_path / "responses.db") as db:
        assert db.execute("SELECT count(*) FROM conversation_items").fetchone() == (0,)
    db.close()

"""Stored responses: continued conversations, limits, expiry and persistence."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from mlx_host._apis.responses.conversation_store import StoreLimits
from mlx_host._apis.responses.schema import InputBody
from mlx_host._apis.responses.service import ResponseService
from mlx_host._apis.responses.store import ResponseStore, StoredResponse

from tests.core.api.test_responses import RESPONSES, text_script
from tests.support.client import error_of, get, post, sdk
from tests.support.server import ServerProcess, running_server

DAY = 24 * 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def stored(id: str, previous: str | None = None, text: str = "hi") -> StoredResponse:
    output = [{"id": f"msg_{id}", "type": "message", "text": text}]
    return StoredResponse(
        {"id": id, "previous_response_id": previous, "output": output}, [{"id": f"in_{id}", "text": "q"}]
    )


def store_of(clock: Clock, entries: int = 100, size: int = 10**6, seconds: float = DAY) -> ResponseStore:
    return ResponseStore(None, StoreLimits(entries, size, seconds), clock)


@pytest.fixture
def closed() -> Iterator[list[ResponseStore]]:
    stores: list[ResponseStore] = []
    yield stores
    for store in stores:
        store.close()


def test_a_conversation_is_the_chain_of_responses(clock: Clock, closed: list[ResponseStore]) -> None:
    closed.append(store := store_of(clock))
    chain = [stored("a"), stored("b", "a"), stored("c", "b")]
    for each in (*chain, stored("other", "a")):
        assert store.put(each)
    assert store.conversation("c") == chain
    assert store.conversation("none") == []
    assert store.get("b") == chain[1]
    assert store.items(["msg_b", "in_c", "none"]) == {
        "msg_b": chain[1].response["output"][0],
        "in_c": chain[2].input[0],
    }
    assert store.delete("b")
    assert not store.delete("b")
    assert store.get("b") is None
    assert store.items(["msg_b"]) == {}
    assert store.conversation("c") == chain[2:]


def test_the_least_recently_used_is_evicted_first(clock: Clock, closed: list[ResponseStore]) -> None:
    closed.append(store := store_of(clock, entries=3))
    for each in (stored("a"), stored("b", "a"), stored("c")):
        store.put(each)
    store.conversation("b")
    store.put(stored("d"))
    assert [store.get(id) is not None for id in "abcd"] == [True, True, False, True]


def test_the_total_size_is_limited(clock: Clock, closed: list[ResponseStore]) -> None:
    closed.append(store := store_of(clock, size=3000))
    for id in "abc":
        assert store.put(stored(id, text="x" * 1000))
    assert [store.get(id) is not None for id in "abc"] == [False, True, True]
    assert not store.put(stored("large", text="x" * 3000))
    assert store.get("large") is None
    assert store.get("c") is not None
    closed.append(nothing := store_of(clock, entries=0))
    assert not nothing.put(stored("a"))


def test_responses_expire_after_their_last_use(clock: Clock, closed: list[ResponseStore]) -> None:
    closed.append(store := store_of(clock, seconds=100))
    store.put(stored("a"))
    store.put(stored("b"))
    clock.now += 60
    assert store.conversation("a")
    clock.now += 60
    assert store.get("b") is None
    assert store.items(["msg_b"]) == {}
    assert store.get("a") is not None
    clock.now += 60
    assert store.conversation("a") == []


def test_a_response_does_not_depend_on_the_store(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    store = store_of(clock)
    store.close()
    response: dict[str, Any] = {"id": "a", "previous_response_id": None, "output": [], "store": True}
    service = ResponseService(store)
    asyncio.run(service.store(response, []))
    service.close()
    assert response["store"] is False
    assert "response a could not be stored" in caplog.text


def test_each_response_is_parsed_once_per_request(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(clock)
    output = [{"id": f"msg_{number}", "type": "message", "text": "x" * 100} for number in range(500)]
    store.put(StoredResponse({"id": "a", "previous_response_id": None, "output": output}, []))
    size = len(json.dumps(output))
    parsed = []
    loads = json.loads

    def counting(text: str) -> Any:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(json, "loads", counting)
    service = ResponseService(store)
    references = [{"type": "item_reference", "id": item["id"]} for item in output]
    history, items = asyncio.run(service.read(InputBody(input=references)))
    service.close()
    assert (history, items) == ([], output)
    assert sum(parsed) <= 2 * size


def test_an_unpaired_surrogate_can_be_stored(clock: Clock, closed: list[ResponseStore]) -> None:
    closed.append(store := store_of(clock))
    store.put(one := stored("a", text="a\ud800"))
    assert store.get("a") == one


def test_a_conversation_can_be_continued(server: ServerProcess, client: openai.OpenAI) -> None:
    first = client.responses.create(model="m", instructions="Be.", input=text_script("one"))
    second = client.responses.create(model="m", input=text_script("two"), previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.instructions is None
    assert client.responses.retrieve(second.id).to_dict() == second.to_dict()
    items = list(client.responses.input_items.list(second.id, order="asc"))
    assert [getattr(item, "role", None) for item in items] == ["user", "assistant", "user"]
    pages = client.responses.input_items.list(second.id, limit=2)
    assert [item.id for item in pages] == [item.id for item in items[::-1]]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.retrieve(first.id)
    assert gone.value.code == "response_not_found"
    with pytest.raises(openai.BadRequestError, match=first.id) as broken:
        client.responses.create(model="m", input="x", previous_response_id=second.id)
    assert (broken.value.code, broken.value.param) == ("previous_response_not_found", "previous_response_id")
    for path in ("", "/input_items"):
        error_of(get(server, f"{RESPONSES}/{first.id}{path}"), 404)
    assert error_of(get(server, f"{RESPONSES}/{second.id}/input_items?after=x"), 400)["param"] == "after"
    assert error_of(get(server, f"{RESPONSES}/{second.id}?stream=true"), 400)["param"] == "stream"


def test_output_items_and_references_to_them_are_accepted_as_input(client: openai.OpenAI) -> None:
    first = client.responses.create(model="m", input=text_script("<think>Hm</think>", "one"))
    again: Any = {"role": "user", "content": text_script("two")}
    whole: list[Any] = [*first.output, again]
    assert client.responses.create(model="m", input=whole).output_text == "two"
    dumped: list[Any] = [*(item.model_dump() for item in first.output), again]
    assert client.responses.create(model="m", input=dumped).output_text == "two"
    references: list[Any] = [*({"type": "item_reference", "id": item.id} for item in first.output), again]
    response = client.responses.create(model="m", input=references)
    ids = [item.id for item in client.responses.input_items.list(response.id, order="asc")]
    assert ids[:2] == [item.id for item in first.output]
    with pytest.raises(openai.NotFoundError, match="msg_none"):
        client.responses.create(model="m", input=[{"type": "item_reference", "id": "msg_none"}])


def test_store_false_is_respected(server: ServerProcess, client: openai.OpenAI) -> None:
    response = client.responses.create(model="m", input=text_script("x"), store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="m", input="x", previous_response_id=response.id)


def test_the_file_persists_and_contains_json(tmp_path: Path) -> None:
    file = tmp_path / "responses.db"
    args = ("--backend", "scripted", "--responses-store", str(file), "--response-store-entries", "2")
    with running_server(*args) as server, sdk(server) as client:
        first = client.responses.create(model="m", input=text_script("one"))
    assert list(tmp_path.iterdir()) == [file]
    assert file.stat().st_mode & 0o077 == 0
    with running_server(*args) as server, sdk(server) as client:
        assert client.responses.retrieve(first.id).output_text == "one"
        second = client.responses.create(model="m", input=text_script("two"), previous_response_id=first.id)
        client.responses.create(model="m", input=text_script("three"))
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="m", input=text_script("four"), previous_response_id=second.id)
    db = sqlite3.connect(file)
    rows = db.execute("SELECT id, response, input FROM responses").fetchall()
    db.close()
    assert {id: json.loads(response)["id"] for id, response, _ in rows}.keys() >= {second.id}
    assert all(isinstance(json.loads(input), list) for _, _, input in rows)


def test_a_response_that_is_too_large_to_store_reports_it() -> None:
    with running_server("--backend", "scripted", "--responses-store-mb", "0.002") as server:
        assert post(server, {"input": text_script("x")}, RESPONSES).json()["store"] is True
        body = post(server, {"input": text_script("x" * 5000)}, RESPONSES).json()
        assert body["store"] is False
        error_of(get(server, f"{RESPONSES}/{body['id']}"), 404)


def test_an_unusable_file_is_rejected_at_startup(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but long enough to be taken for the head of one " * 20)
    for path in (file, tmp_path / "none" / "store.db"):
        command = [sys.executable, "-m", "mlx_host", "run", "--backend", "scripted", "--port", "0"]
        done = subprocess.run(
            [*command, "--responses-store", str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2, done.stderr
        assert "--responses-store" in done.stderr

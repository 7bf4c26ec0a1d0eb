"""Background responses: started, followed by several clients, cancelled, and interrupted by a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from mlx_host._apis.responses.conversation_store import StoreLimits
from mlx_host._apis.responses.event_log import EventLog
from mlx_host._apis.responses.store import ResponseStore, StoredResponse

from tests.core.api.open_responses import check_events, check_response
from tests.core.api.test_responses import RESPONSES, named_events, script, text_script
from tests.support.client import error_of, eventually, get, post, wait_for_queue
from tests.support.server import ServerProcess, running_server


def completed(client: openai.OpenAI, id: str) -> Any:
    def response() -> Any:
        found = client.responses.retrieve(id)
        return found if found.status not in ("queued", "in_progress") else None

    return eventually(response)


def test_a_response_is_generated_in_the_background(
    client: openai.OpenAI, server: ServerProcess, tmp_path: Path
) -> None:
    steps = script(["text", "He"], ["until", str(tmp_path / "go")], ["text", "llo"])
    first = client.responses.create(model="m", input=steps, background=True)
    assert (first.status, first.background, first.output) == ("queued", True, [])
    check_response(get(server, f"{RESPONSES}/{first.id}").json())
    with client.responses.retrieve(first.id, stream=True) as stream:
        begun = []
        for event in stream:
            begun.append(event)
            if event.type == "response.output_text.delta":
                break
    assert client.responses.retrieve(first.id).status == "in_progress"
    error = error_of(post(server, {"input": "x", "previous_response_id": first.id}, RESPONSES), 400)
    assert error["param"] == "previous_response_id"
    after = begun[-1].sequence_number
    (tmp_path / "go").touch()
    with client.responses.retrieve(first.id, stream=True, starting_after=after) as stream:
        rest = list(stream)
    assert [event.sequence_number for event in rest] == list(range(after + 1, after + 1 + len(rest)))
    assert completed(client, first.id).output_text == "Hello"
    kept = named_events(get(server, f"{RESPONSES}/{first.id}?stream=true").text)
    check_events(kept)
    assert [event["sequence_number"] for event in kept] == list(range(len(begun) + len(rest)))
    more = client.responses.create(model="m", input=text_script("more"), previous_response_id=first.id)
    assert more.output_text == "more"


def test_a_client_that_disconnects_does_not_end_it(client: openai.OpenAI, tmp_path: Path) -> None:
    steps = script(["text", "He"], ["until", str(tmp_path / "go")], ["text", "llo"])
    with client.responses.create(model="m", input=steps, background=True, stream=True) as stream:
        id = next(event.response.id for event in stream if event.type == "response.created")
    (tmp_path / "go").touch()
    assert completed(client, id).output_text == "Hello"


def test_failed_and_cancelled_responses(client: openai.OpenAI, server: ServerProcess, tmp_path: Path) -> None:
    failing = client.responses.create(model="m", input=script(["text", "He"], ["fail", "oh"]), background=True)
    failed = completed(client, failing.id)
    assert (failed.status, failed.error.code) == ("failed", "server_error")
    rejected = client.responses.create(model="m", input=script(["reject", "no"]), background=True)
    assert completed(client, rejected.id).error.code == "invalid_prompt"
    steps = script(["text", "He"], ["until", str(tmp_path / "never")])
    running = client.responses.create(model="m", input=steps, background=True)
    eventually(lambda: client.responses.retrieve(running.id).output)
    assert client.responses.cancel(running.id).status == "cancelled"
    assert completed(client, running.id).status == "cancelled"
    events = named_events(get(server, f"{RESPONSES}/{running.id}?stream=true").text)
    assert events[-1]["response"]["status"] == "cancelled"
    wait_for_queue(server, running=0)


def test_a_deleted_response_is_not_stored(client: openai.OpenAI, server: ServerProcess, tmp_path: Path) -> None:
    steps = script(["until", str(tmp_path / "go")])
    running = client.responses.create(model="m", input=steps, background=True)
    client.responses.delete(running.id)
    (tmp_path / "go").touch()
    eventually(lambda: get(server, f"{RESPONSES}/{running.id}").status_code == 404)
    wait_for_queue(server, running=0)


def test_only_background_responses_keep_their_events(server: ServerProcess) -> None:
    stored = post(server, {"input": text_script("x")}, RESPONSES).json()
    assert error_of(get(server, f"{RESPONSES}/{stored['id']}?stream=true"), 400)["param"] == "stream"
    assert error_of(get(server, f"{RESPONSES}/resp_none?stream=true"), 404)["code"] == "response_not_found"
    assert get(server, f"{RESPONSES}/{stored['id']}?starting_after=2").headers["x-mlx-host-ignored"] == "starting_after"
    body = {"input": "x", "background": True, "model": "other", "store": False}
    assert error_of(post(server, body, RESPONSES), 400)["param"] == "background"


def test_a_shutdown_ends_and_stores_it(tmp_path: Path) -> None:
    store = tmp_path / "responses.db"
    steps = script(["text", "He"], ["until", str(tmp_path / "never")])
    options = ["--backend", "scripted", "--responses-store", str(store), "--shutdown-timeout", "0"]
    with running_server(*options) as server:
        id = post(server, {"input": steps, "background": True}, RESPONSES).json()["id"]
        eventually(lambda: get(server, f"{RESPONSES}/{id}").json()["output"])
    with running_server(*options) as server:
        response = get(server, f"{RESPONSES}/{id}").json()
        assert (response["status"], response["error"]["code"]) == ("failed", "server_error")


def test_a_crash_of_the_server_fails_it(tmp_path: Path) -> None:
    limits = StoreLimits(10, 10**6, 1000.0)
    unfinished: dict[str, Any] = {
        "id": "resp_1",
        "previous_response_id": None,
        "output": [],
        "status": "queued",
        "error": None,
    }
    store = ResponseStore(tmp_path / "responses.db", limits)
    store.put(StoredResponse(unfinished, []))
    store.close()
    store = ResponseStore(tmp_path / "responses.db", limits)
    found = store.get("resp_1")
    store.close()
    assert found is not None
    assert (found.response["status"], found.response["error"]["code"]) == ("failed", "server_error")


def test_every_reader_of_a_log_has_its_own_position() -> None:
    async def main() -> None:
        log = EventLog()
        log.append([{"type": "a"}, {"type": "b"}])
        whole, late = log.follow(), log.follow(after=1)
        assert [message.event for message in await anext(whole)] == ["a", "b"]
        waiting = asyncio.ensure_future(anext(late))
        await asyncio.sleep(0)
        log.append([{"type": "c"}])
        assert [message.event for message in await waiting] == ["c"]
        log.close()
        assert [message.event for message in await anext(whole)] == ["c"]
        for reader in (whole, late):
            with pytest.raises(StopAsyncIteration):
                await anext(reader)

    asyncio.run(main())

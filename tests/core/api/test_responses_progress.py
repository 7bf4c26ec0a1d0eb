"""Responses in progress: retrieved, cancelled, failed and stored, with a scripted service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx2
import pytest
from mlx_host._apis.responses import RESPONSES, ResponsesSettings
from mlx_host._apis.responses.builder import ResponseBuilder
from mlx_host._apis.responses.service import ResponseService
from mlx_host._http.app import make_app, mount
from mlx_host.api import Caller, ChatEvent, ChoiceCompleted, ChoiceDelta, ModelState, ModelStatus, OutputCompleted
from mlx_host.errors import EngineError, RequestError
from mlx_host.events import Progress, Started
from mlx_host.parsing import Content
from mlx_host.requests import ChatRequest

from tests.core.api.test_responses import grown, named_events

URL = "/v1/responses"
END: list[ChatEvent] = [ChoiceCompleted(0, "stop"), OutputCompleted(3, 0, 1)]


class ScriptedReply:
    """A reply whose batches, errors and end the test puts into a queue."""

    model = ModelStatus("scripted", ModelState.READY)
    progress: Progress | None = None
    warning: str | None = None
    prompt_tokens = cached_tokens = completion_tokens = 0

    def __init__(self, request: ChatRequest, keep_alive: float) -> None:
        self.request = request
        self.keep_alive = keep_alive
        self.entered = asyncio.Event()
        self.is_closed = False
        self._arrived: asyncio.Queue[list[ChatEvent] | RequestError | None] = asyncio.Queue()

    def put(self, *arrived: list[ChatEvent] | RequestError | None) -> None:
        for each in arrived:
            self._arrived.put_nowait(each)

    async def __aenter__(self) -> Self:
        self.entered.set()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.is_closed = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[ChatEvent]:
        arrived = await self._arrived.get()
        if arrived is None:
            raise StopAsyncIteration
        if isinstance(arrived, RequestError):
            raise arrived
        return arrived


class ScriptedService:
    def __init__(self) -> None:
        self.keep_alive = 0.0
        self.replies: asyncio.Queue[ScriptedReply] = asyncio.Queue()
        self._by_id: dict[str, ScriptedReply] = {}

    def model(self, name: str, caller: Caller) -> ModelStatus:
        return ScriptedReply.model

    def chat(self, request: ChatRequest, **_: Any) -> ScriptedReply:
        reply = self._by_id[request.id] = ScriptedReply(request, self.keep_alive)
        self.replies.put_nowait(reply)
        return reply

    def cancel(self, id: str, error: RequestError) -> bool:
        reply = self._by_id.get(id)
        if reply is None or reply.is_closed:
            return False
        reply.put(error)
        return True


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[ScriptedService, httpx2.AsyncClient]]:
    service: Any = ScriptedService()
    api = mount(RESPONSES, "core", service, ResponsesSettings())
    transport = httpx2.ASGITransport(make_app([api], 64))
    async with api.endpoints.lifespan(), httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield service, client


async def begin(
    service: ScriptedService, client: httpx2.AsyncClient, **body: Any
) -> tuple[asyncio.Task[httpx2.Response], ScriptedReply]:
    response = asyncio.create_task(client.post(URL, json={"input": "x", **body}))
    reply = await service.replies.get()
    await reply.entered.wait()
    return response, reply


def started(text: str) -> list[ChatEvent]:
    return [Started(prompt_tokens=3), ChoiceDelta(0, [Content(text)])]


def run(test: Callable[[ScriptedService, httpx2.AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serving() as (service, client):
            await test(service, client)

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_can_be_retrieved_while_it_runs(stream: bool) -> None:
    async def test(service: ScriptedService, client: httpx2.AsyncClient) -> None:
        task, reply = await begin(service, client, stream=stream)
        path = f"{URL}/{reply.request.id}"
        assert (await client.get(path)).json()["status"] == "in_progress"
        reply.put(started("Hi"), END, None)
        response = await task
        result = grown(named_events(response.text)) if stream else response.json()
        assert result["status"] == "completed"
        assert (await client.get(path)).json() == result

    run(test)


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_is_always_available(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between the end of the output and the end of storing."""
    storing, may_store = asyncio.Event(), asyncio.Event()
    store = ResponseService.store

    async def slow_store(self: ResponseService, response: dict[str, Any], items: Any) -> None:
        storing.set()
        await may_store.wait()
        await store(self, response, items)

    monkeypatch.setattr(ResponseService, "store", slow_store)

    async def test(service: ScriptedService, client: httpx2.AsyncClient) -> None:
        for arrived in ([END, None], [EngineError("it broke")]):
            storing.clear()
            may_store.clear()
            task, reply = await begin(service, client, stream=stream)
            reply.put(started("Hi"), *arrived)
            await storing.wait()
            path = f"{URL}/{reply.request.id}"
            assert (await client.get(path)).status_code == 200
            may_store.set()
            await task
            assert (await client.get(path)).json()["status"] == ("completed" if arrived[-1] is None else "failed")

    run(test)


@pytest.mark.parametrize("has_output", [False, True])
def test_a_plain_response_can_be_cancelled(has_output: bool) -> None:
    async def test(service: ScriptedService, client: httpx2.AsyncClient) -> None:
        task, reply = await begin(service, client)
        path = f"{URL}/{reply.request.id}"
        if has_output:
            reply.put(started("He"))
        assert (await client.post(f"{path}/cancel")).json()["status"] == "cancelled"
        response = await task
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
        texts = [part["text"] for item in response.json()["output"] for part in item["content"]]
        assert texts == (["He"] if has_output else [])
        assert (await client.get(path)).json() == response.json()
        assert (await client.post(f"{path}/cancel")).status_code == 400

    run(test)


def test_a_rejected_request_leaves_nothing_behind() -> None:
    async def test(service: ScriptedService, client: httpx2.AsyncClient) -> None:
        for stream in (False, True):
            task, reply = await begin(service, client, stream=stream)
            reply.put(EngineError("it broke", param="messages"))
            response = await task
            assert response.status_code == 500
            assert response.json()["error"]["param"] == "input"
            assert (await client.get(f"{URL}/{reply.request.id}")).status_code == 404

    run(test)


class WatchedProgress(Progress):
    """Progress that sets an event when it is read for the second time; the first report was then sent."""

    def __init__(self, sent: asyncio.Event) -> None:
        super().__init__("loading", 0)
        self.__dict__.update(sent=sent, reports=0)

    def __str__(self) -> str:
        self.__dict__["reports"] += 1
        if self.__dict__["reports"] == 2:
            self.__dict__["sent"].set()
        return "loading"


def test_a_failure_after_a_keep_alive_has_all_events() -> None:
    async def test(service: ScriptedService, client: httpx2.AsyncClient) -> None:
        service.keep_alive = 0.001
        task, reply = await begin(service, client, stream=True)
        reply.progress = WatchedProgress(sent := asyncio.Event())
        await sent.wait()
        reply.put(EngineError("it broke"))
        response = await task
        assert response.text.startswith(": loading\n\n")
        failed = grown(named_events(response.text))
        assert (failed["status"], failed["error"]["message"]) == ("failed", "it broke")
        assert (await client.get(f"{URL}/{failed['id']}")).json() == failed

    run(test)


def test_sequence_numbers_continue_when_a_response_fails() -> None:
    builder = ResponseBuilder({"id": "resp_1", "output": [], "store": True})
    events = [*builder.add(started("He")), *builder.fail(EngineError("it broke"))]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[-4:]] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.failed",
    ]
    assert json.loads(json.dumps(events[-2]["item"]))["status"] == "incomplete"


def test_a_second_start_is_an_error() -> None:
    builder = ResponseBuilder({"id": "resp_1", "output": [], "store": True})
    builder.add(started("He"))
    with pytest.raises(KeyError):
        builder.add(started("He"))

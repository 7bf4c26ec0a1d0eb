"""The fake service behaves like the host: rejections, chat events, cancellation, disconnects."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mlx_host._apis.chat import CHAT
from mlx_host._plugins.manager import Plugins
from mlx_host.api import ChoiceCompleted, ChoiceDelta, ModelState, ModelStatus, OutputCompleted, Service
from mlx_host.errors import EngineError, ModelNotFoundError, QueueFullError
from mlx_host.events import Finished, Progress, Started, TextDelta
from mlx_host.parsing import Content, Reasoning
from mlx_host.requests import ChatRequest
from mlx_host.testing import FakeReply, FakeService, HttpResponse, request

STARTED = Started(prompt_tokens=3, cached_tokens=1)
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
REQUEST = ChatRequest(id="r", model="fake", messages=[{"role": "user", "content": "Hi"}])


def post(service: Service, disconnect_after: int | None = None, **fields: Any) -> HttpResponse:
    call = request(CHAT, service, "POST", "/v1/chat/completions", {**BODY, **fields}, disconnect_after=disconnect_after)
    return asyncio.run(call)


def test_a_reply_follows_its_script() -> None:
    async def collect() -> tuple[list[Any], FakeReply[Any]]:
        service: Service = FakeService(
            [STARTED, [TextDelta("a"), TextDelta("b", token_count=2)], Progress("x", 1), Finished()]
        )
        async with service.submit(REQUEST) as reply:
            batches = [list(batch) async for batch in reply]
        assert isinstance(reply, FakeReply)
        return batches, reply

    batches, reply = asyncio.run(collect())
    assert batches == [[STARTED], [TextDelta("a"), TextDelta("b", token_count=2)], [Progress("x", 1)], [Finished()]]
    assert (reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens) == (3, 1, 3)
    assert reply.progress == Progress("x", 1)
    assert (reply.entered, reply.closed, reply.completed) == (True, True, True)


def test_model_events_become_chat_events() -> None:
    async def collect() -> list[Any]:
        service = FakeService(
            [STARTED, TextDelta("<think>Hm.</think>"), TextDelta("Yes."), Finished()],
            parser=Plugins({}).parser("qwen3"),
        )
        async with service.chat(REQUEST) as reply:
            return [event async for batch in reply for event in batch]

    events = asyncio.run(collect())
    parts = [part for event in events if isinstance(event, ChoiceDelta) for part in event.parts]
    assert "".join(part.text for part in parts if isinstance(part, Reasoning)) == "Hm."
    assert "".join(part.text for part in parts if isinstance(part, Content)) == "Yes."
    assert events[-2:] == [ChoiceCompleted(0, "stop"), OutputCompleted(3, 1, 2, reasoning_tokens=1)]


def test_a_handler_can_use_it() -> None:
    service = FakeService([STARTED, TextDelta("Hello"), Finished(reason="length")])
    response = post(service, user="u")
    assert response.json()["choices"][0]["message"]["content"] == "Hello"
    assert response.json()["choices"][0]["finish_reason"] == "length"
    assert response.headers["x-mlx-host-ignored"] == "user"
    (reply,) = service.replies
    assert isinstance(reply.request, ChatRequest)
    assert reply.request.messages == BODY["messages"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["entering", "first batch"])
def test_a_rejection_has_its_status(stream: bool, where: str) -> None:
    error = QueueFullError("full", retry_after=2)
    service = FakeService(rejection=error) if where == "entering" else FakeService([error])
    response = post(service, stream=stream)
    assert (response.status, response.headers["retry-after"]) == (429, "2")
    assert response.json()["error"]["message"] == "full"


def test_an_error_in_a_stream_is_its_last_message() -> None:
    response = post(FakeService([STARTED, TextDelta("a"), EngineError("broken")]), stream=True)
    assert response.status == 200
    assert '"broken"' in response.messages()[-1][1]


@pytest.mark.parametrize(("stream", "disconnect_after"), [(False, 0), (True, 0), (True, 1)])
def test_a_disconnect_closes_the_reply(stream: bool, disconnect_after: int) -> None:
    # The second event is never set.
    service = FakeService([STARTED, asyncio.Event(), Finished()] if disconnect_after else [asyncio.Event()])
    response = post(service, stream=stream, disconnect_after=disconnect_after)
    assert not response.complete or response.status == 499
    (reply,) = service.replies
    assert reply.closed
    assert not reply.completed


def test_cancelling_ends_a_reply_that_waits() -> None:
    async def run() -> None:
        service = FakeService([STARTED, asyncio.Event()])
        async with service.submit(REQUEST) as reply:
            await anext(reply)
            assert service.cancel("r", EngineError("cancelled"))
            assert not service.cancel("other", EngineError("cancelled"))
            with pytest.raises(EngineError, match="cancelled"):
                await anext(reply)
        assert not service.cancel("r", EngineError("cancelled"))

    asyncio.run(run())


def test_models_are_loaded_and_unloaded() -> None:
    async def run() -> list[ModelState]:
        service = FakeService(models=[ModelStatus("a", ModelState.READY), ModelStatus("b", ModelState.UNLOADED)])
        with pytest.raises(ModelNotFoundError, match="a, b"):
            service.model("c")
        changes = service.changes()
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        await service.unload("a")
        await service.load("b")
        states = [(await first).state, (await anext(changes)).state]
        assert [model.state for model in service.models()] == states
        return states

    assert asyncio.run(run()) == [ModelState.UNLOADED, ModelState.READY]


def test_token_count_is_configurable() -> None:
    assert asyncio.run(FakeService(token_count=7).count_tokens(REQUEST)) == 7

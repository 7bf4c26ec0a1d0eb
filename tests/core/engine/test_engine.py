"""The engine client with a worker on a thread: what crosses the pipe, and how faults in it are handled."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from mlx_host._engine import Engine, RequestHandle
from mlx_host._engine.engine import _log
from mlx_host._engine.ipc import LogMessage
from mlx_host._engine.worker import ThreadWorker
from mlx_host.backend import Model
from mlx_host.errors import EngineError, ModelUnavailableError, RequestError
from mlx_host.events import Event, EventBatch, Finished, Started, TextDelta
from mlx_host.requests import ChatRequest


class Counting(Model):
    """Yields max_tokens tokens; without max_tokens, yields until it is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.may_talk = threading.Event()
        self.may_talk.set()
        self.at_once = False

    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        try:
            self.may_talk.wait()
            if self.at_once:
                yield EventBatch((Started(prompt_tokens=1), *[TextDelta("x")] * 3, Finished(completion_tokens=3)))
                return
            yield Started(prompt_tokens=1)
            output = 0
            while request.max_tokens is None or output < request.max_tokens:
                output += 1
                yield TextDelta("x")
            yield Finished(completion_tokens=output)
        finally:
            self.closed.set()


def ask(id: str = "r", max_tokens: int | None = 3, **more: Any) -> ChatRequest:
    return ChatRequest(id=id, model="m", messages=[], max_tokens=max_tokens, **more)


async def all_of(handle: RequestHandle) -> list[Event]:
    return [event async for batch in handle for event in batch]


def run(test: Callable[[Engine, Counting], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        model = Counting()
        engine = Engine(ThreadWorker(lambda: model))
        await engine.ready()
        try:
            await asyncio.wait_for(test(engine, model), 60)
        finally:
            await engine.stop(60)

    asyncio.run(main())


def test_output_is_complete_and_in_order() -> None:
    async def test(engine: Engine, model: Counting) -> None:
        finished = []
        handle = RequestHandle(ask(), lambda: finished.append(True))
        engine.submit(handle)
        assert await all_of(handle) == [Started(prompt_tokens=1), *[TextDelta("x")] * 3, Finished(completion_tokens=3)]
        assert finished == [True]
        assert handle.finished
        assert handle.started
        assert not engine.busy
        assert engine.batch_sizes == {1: 5}

    run(test)


def test_steps_are_counted_by_requests_not_by_events() -> None:
    async def test(engine: Engine, model: Counting) -> None:
        model.at_once = True
        handle = RequestHandle(ask())
        engine.submit(handle)
        assert len(await all_of(handle)) == 5
        assert engine.batch_sizes == {1: 1}

    run(test)


def test_engine_is_busy_until_a_cancelled_request_is_closed() -> None:
    async def test(engine: Engine, model: Counting) -> None:
        model.may_talk.clear()
        handle = RequestHandle(ask(max_tokens=None))
        engine.submit(handle)
        engine.cancel(handle)
        engine.cancel(handle)
        assert not engine.handles
        assert engine.busy
        model.may_talk.set()
        while engine.busy:
            await asyncio.sleep(0.001)

    run(test)


def test_cancelled_request_is_closed_in_the_model_and_others_continue() -> None:
    async def test(engine: Engine, model: Counting) -> None:
        endless, finite = RequestHandle(ask("endless", None)), RequestHandle(ask("finite"))
        engine.submit(endless)
        await anext(endless)
        engine.cancel(endless)
        engine.submit(finite)
        assert len(await all_of(finite)) == 5
        assert model.closed.is_set()

    run(test)


def test_request_that_cannot_be_pickled_does_not_affect_others() -> None:
    async def test(engine: Engine, model: Counting) -> None:
        bad, good = RequestHandle(ask("bad", template_kwargs={"f": lambda: None})), RequestHandle(ask("good"))
        engine.submit(bad)
        engine.submit(good)
        with pytest.raises(EngineError):
            await all_of(bad)
        assert len(await all_of(good)) == 5

    run(test)


class Unpicklable:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_request_that_cannot_be_unpickled_does_not_affect_others() -> None:
    async def test(engine: Engine, model: Counting) -> None:
        bad, good = RequestHandle(ask("bad", template_kwargs={"f": Unpicklable()})), RequestHandle(ask("good"))
        engine.submit(bad)
        engine.submit(good)
        with pytest.raises(EngineError, match="ValueError"):
            await all_of(bad)
        assert len(await all_of(good)) == 5

    run(test)


def test_failing_log_filter_of_the_host_does_not_end_the_worker() -> None:
    async def test(engine: Engine, model: Counting) -> None:
        def broken(record: logging.LogRecord) -> bool:
            raise ZeroDivisionError

        logger = logging.getLogger("tests.broken")
        logger.addFilter(broken)
        logger.setLevel(logging.INFO)
        _log(LogMessage("tests.broken", logging.INFO, "text", 0.0))

    run(test)


def test_an_error_ends_the_output() -> None:
    async def main() -> None:
        finished = []
        handle = RequestHandle(ask(), lambda: finished.append(True))
        handle.push(Started(prompt_tokens=1))
        handle.push(ModelUnavailableError("gone"))
        handle.push(TextDelta("late"))
        handle.push(Finished())
        assert await anext(handle) == [Started(prompt_tokens=1)]
        with pytest.raises(RequestError, match="gone"):
            await anext(handle)
        assert finished == [True]

    asyncio.run(main())

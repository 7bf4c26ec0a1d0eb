"""Served models whose workers run on threads and whose loads and output are scripted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from mlx_host._engine.worker import ThreadWorker
from mlx_host._host import ModelLimits, ServedModel
from mlx_host._host.reply import ModelReply
from mlx_host._host.supervisor import RestartPolicy
from mlx_host.api import Deadline, ModelState
from mlx_host.backend import Model
from mlx_host.errors import MlxHostError
from mlx_host.events import Event, Finished, Started, TextDelta
from mlx_host.requests import ChatRequest

# No test waits for a delay: it is zero, or longer than any test.
AT_ONCE = RestartPolicy(restart_delay=0.0, retry_delay=0.0)
NEVER = RestartPolicy(restart_delay=1000.0, retry_delay=1000.0)
RESTARTS_ONLY = RestartPolicy(restart_delay=0.0, retry_delay=1000.0)


class Speaker(Model):
    """Yields max_tokens tokens; without max_tokens, yields until `released`."""

    concurrency = 2

    def __init__(self, released: threading.Event) -> None:
        self._released = released

    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        yield Started(prompt_tokens=1)
        tokens = 0
        while (
            (not tokens or not self._released.is_set()) if request.max_tokens is None else tokens < request.max_tokens
        ):
            tokens += 1
            yield TextDelta("x")
        yield Finished(completion_tokens=tokens)


class Workers:
    """Starts a worker for each load. The outcomes are those of `loads`; further loads succeed.

    A load is None (it succeeds), "crash" (the process exits while loading) or an error that it fails with.
    """

    def __init__(self, *loads: MlxHostError | str | None) -> None:
        self.released = threading.Event()
        self.started: list[ThreadWorker] = []
        self._loads = iter(loads)

    def start(self) -> ThreadWorker:
        load = next(self._loads, None)

        def make() -> Model | None:
            if isinstance(load, MlxHostError):
                raise load
            return None if load == "crash" else Speaker(self.released)

        self.started.append(ThreadWorker(make))
        return self.started[-1]

    def crash(self) -> None:
        """End the current worker like a crash."""
        self.started[-1].kill()

    async def wait_for(self, count: int) -> None:
        """Wait until this many workers were started."""
        await until(lambda: len(self.started) >= count)

    @property
    def alive(self) -> int:
        return sum(worker._thread.is_alive() for worker in self.started)


def served(workers: Workers, policy: RestartPolicy = AT_ONCE, name: str = "m", queue_size: int = 100) -> ServedModel:
    return ServedModel(name, workers.start, ModelLimits(queue_size=queue_size), policy=policy)


def chat(id: str = "r", max_tokens: int | None = 3) -> ChatRequest:
    return ChatRequest(id=id, model="m", messages=[], max_tokens=max_tokens)


def reply(model: ServedModel, id: str = "r", max_tokens: int | None = 3) -> ModelReply:
    return ModelReply(model, chat(id, max_tokens), Deadline.NONE, 0.0, lambda record: None)


async def text(model: ServedModel, id: str = "r", max_tokens: int | None = 3) -> str:
    """Run a request and return its text."""
    async with reply(model, id, max_tokens) as events:
        return "".join([event.text async for batch in events for event in batch if isinstance(event, TextDelta)])


async def in_state(model: ServedModel, state: ModelState) -> None:
    """Wait until the model is in a state."""
    await model.lifecycle.wait_while(*(other for other in ModelState if other is not state))


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until a condition holds."""
    while not condition():
        await asyncio.sleep(0.001)


@asynccontextmanager
async def running(model: ServedModel) -> AsyncIterator[ServedModel]:
    """Load a model, and stop it at the end."""
    try:
        await model.load()
        yield model
    finally:
        await model.stop(60)

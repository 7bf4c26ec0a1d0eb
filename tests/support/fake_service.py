"""Replies and a service without a model, for tests of respond() and of API families."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from mlx_host.api import LOCAL, Caller, Deadline, ModelState, ModelStatus
from mlx_host.api.http import Encoder, Messages
from mlx_host.events import Progress
from mlx_host.requests import ChatRequest, Request

MODEL = ModelStatus("m", ModelState.READY, backend="toy")
CHAT_REQUEST = ChatRequest(id="r", model="m", messages=())
Batches = Iterable[Sequence[Any] | Exception | asyncio.Event]


class ListedReply:
    """Yields the batches it is given; an exception among them is raised, an asyncio.Event is awaited."""

    def __init__(
        self,
        batches: Batches,
        keep_alive: float = 0,
        *,
        request: Request = CHAT_REQUEST,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
    ) -> None:
        self.model = MODEL
        self.request = request
        self.progress: Progress | None = None
        self.warning: str | None = None
        self.cached_tokens = 0
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.keep_alive = keep_alive
        self.entered = self.left = False
        self._batches = iter(batches)

    async def __aenter__(self) -> Self:
        self.entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.left = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Any]:
        for batch in self._batches:
            if isinstance(batch, Exception):
                raise batch
            if not isinstance(batch, asyncio.Event):
                return batch
            await batch.wait()
        raise StopAsyncIteration


class Verbatim(Encoder[Any]):
    """Encodes each event as it is."""

    def encode(self, events: Sequence[Any]) -> Messages:
        return events


class ListedService:
    """Replies to each request with the same batches, after `prepare` has changed it as plugins do."""

    def __init__(self, batches: Batches, prepare: Callable[[Any], Any] = lambda request: request) -> None:
        self.deadlines: list[Deadline] = []
        self._batches = batches
        self._prepare = prepare

    def submit(
        self, request: Request, *, caller: Caller = LOCAL, deadline: Deadline = Deadline.COMPLETE
    ) -> ListedReply:
        self.deadlines.append(deadline)
        return ListedReply(self._batches, request=self._prepare(request))

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(work, name=name)


async def connected() -> Any:
    """An ASGI `receive` that waits for ever: the client stays connected."""
    await asyncio.Event().wait()

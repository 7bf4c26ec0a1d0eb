"""Doubles of the service and its replies, for tests of API families without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

from mlx_host.api import LOCAL, Caller, Deadline, ModelState, ModelStatus
from mlx_host.errors import RequestError
from mlx_host.events import Event, Progress
from mlx_host.requests import Request

MODEL = ModelStatus("m", ModelState.READY, backend="toy")


class EventReply:
    """A reply with these batches of events; an error in place of a batch, or of entering, is raised there.

    `entered` and `left` are set when that happens. Events that are awaited stand for the time that a model takes.
    """

    keep_alive = 0.0
    cached_tokens = 0

    def __init__(
        self,
        request: Request,
        batches: Sequence[Sequence[Event] | RequestError | asyncio.Event],
        *,
        rejection: RequestError | None = None,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
    ) -> None:
        self.model = MODEL
        self.request = request
        self.rejection = rejection
        self.progress: Progress | None = None
        self.warning: str | None = None
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.left = False
        self._batches = iter(batches)

    async def __aenter__(self) -> Self:
        if self.rejection is not None:
            raise self.rejection
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.left = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Event]:
        for batch in self._batches:
            if isinstance(batch, asyncio.Event):
                await batch.wait()
            elif isinstance(batch, RequestError):
                raise batch
            else:
                return batch
        raise StopAsyncIteration


class EventService:
    """A service whose requests all get the same batches of events, or the same rejection."""

    def __init__(
        self, batches: Sequence[Sequence[Event] | RequestError | asyncio.Event], rejection: RequestError | None = None
    ) -> None:
        self.deadlines: list[Deadline] = []
        self._batches = batches
        self._rejection = rejection

    def submit(self, request: Request, *, caller: Caller = LOCAL, deadline: Deadline = Deadline.COMPLETE) -> EventReply:
        self.deadlines.append(deadline)
        return EventReply(request, self._batches, rejection=self._rejection)

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(work, name=name)

"""A reply without a model, for tests of what respond() does with one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from mlx_host.api import ModelState, ModelStatus
from mlx_host.api.http import Encoder, Messages
from mlx_host.events import Progress
from mlx_host.requests import ChatRequest, Request


class ListedReply:
    """Yields the batches it is given; an exception among them is raised, an asyncio.Event is awaited."""

    def __init__(self, batches: Iterable[Sequence[Any] | Exception | asyncio.Event], keep_alive: float = 0) -> None:
        self.model = ModelStatus("m", ModelState.READY)
        self.request: Request = ChatRequest(id="r", model="m", messages=())
        self.progress: Progress | None = None
        self.warning: str | None = None
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
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

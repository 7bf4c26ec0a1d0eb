"""Replies that wrap other replies: several merged into one, and one with retries."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from mlx_host.api.service import ModelStatus, Reply
from mlx_host.errors import RequestError
from mlx_host.events import Progress
from mlx_host.requests import Request

EventT = TypeVar("EventT")


class DerivedReply(ABC, Generic[EventT]):
    """A reply that delegates everything but its events to another one."""

    @property
    @abstractmethod
    def _source(self) -> Reply[EventT]: ...

    @property
    def model(self) -> ModelStatus:
        return self._source.model

    @property
    def request(self) -> Request:
        return self._source.request

    @property
    def keep_alive(self) -> float:
        return self._source.keep_alive

    @property
    def progress(self) -> Progress | None:
        return self._source.progress

    @property
    def warning(self) -> str | None:
        return self._source.warning

    @property
    def prompt_tokens(self) -> int:
        return self._source.prompt_tokens

    @property
    def cached_tokens(self) -> int:
        return self._source.cached_tokens

    @property
    def completion_tokens(self) -> int:
        return self._source.completion_tokens

    def __aiter__(self) -> Self:
        return self


class MergedReply(DerivedReply[EventT]):
    """The output of several replies of one model, as it arrives; each event has the index of its reply.

    Enters the first reply, then up to `max_running()` at a time. `max_running` is called when the model is loaded, so
    that its concurrency is known. The first error ends all replies. The token counts are sums.
    """

    def __init__(self, replies: Sequence[Reply[EventT]], max_running: Callable[[], int]) -> None:
        self._replies = replies
        self._max_running = max_running
        self._arrived: asyncio.Queue[tuple[int, Sequence[EventT]] | asyncio.Task[None]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting = deque(enumerate(replies))
        self._running = 0
        self._entered = False

    @property
    def _source(self) -> Reply[EventT]:
        return self._replies[0]

    @property
    def warning(self) -> str | None:
        return next((reply.warning for reply in self._replies if reply.warning), None)

    @property
    def prompt_tokens(self) -> int:
        return sum(reply.prompt_tokens for reply in self._replies)

    @property
    def cached_tokens(self) -> int:
        return sum(reply.cached_tokens for reply in self._replies)

    @property
    def completion_tokens(self) -> int:
        return sum(reply.completion_tokens for reply in self._replies)

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self) -> None:
        self._running += 1
        task = asyncio.create_task(self._read(*self._waiting.popleft()))
        task.add_done_callback(self._arrived.put_nowait)
        self._tasks.append(task)

    async def _read(self, number: int, reply: Reply[EventT]) -> None:
        async with reply:
            if not self._entered:
                self._entered = True
                for _ in range(min(len(self._waiting), max(0, self._max_running() - 1))):
                    self._start()
            async for events in reply:
                self._arrived.put_nowait((number, events))

    async def __anext__(self) -> Sequence[tuple[int, EventT]]:
        while self._running:
            arrived = await self._arrived.get()
            if not isinstance(arrived, asyncio.Task):
                number, events = arrived
                return [(number, event) for event in events]
            self._running -= 1
            arrived.result()
            if self._waiting:
                self._start()
        raise StopAsyncIteration


class RetryingReply(DerivedReply[EventT]):
    """A reply that is retried if it is rejected: `retry(error)` returns the next reply, or None to raise the error.

    Only a rejection is retried: a reply that has yielded events is not.
    """

    def __init__(self, first: Reply[EventT], retry: Callable[[RequestError], Reply[EventT] | None]) -> None:
        self._reply = first
        self._retry = retry
        self._has_events = self._is_open = False

    @property
    def _source(self) -> Reply[EventT]:
        return self._reply

    async def __aenter__(self) -> Self:
        while True:
            try:
                await self._reply.__aenter__()
            except RequestError as error:
                self._replace(error)
            else:
                self._is_open = True
                return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_open:
            self._is_open = False
            await self._reply.__aexit__(kind, error, traceback)

    def _replace(self, error: RequestError) -> None:
        replacement = self._retry(error)
        if replacement is None:
            raise error
        self._reply = replacement

    async def __anext__(self) -> Sequence[EventT]:
        while True:
            try:
                events = await self._reply.__anext__()
            except RequestError as error:
                if self._has_events:
                    raise
                await self.__aexit__(type(error), error, error.__traceback__)
                self._replace(error)
                await self.__aenter__()
            else:
                self._has_events = True
                return events

"""The host's handle of a submitted request: an asynchronous iterator over its events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlx_host.errors import RequestError
from mlx_host.events import Event, Finished
from mlx_host.requests import Request


class RequestHandle:
    """A request and its events; each iteration returns all events since the previous one.

    `started` is set by the first event; `finished` is set by the last event or by an error, and `on_finish` is called.
    `crash_count` is the number of processes that exited while running this request.
    """

    def __init__(self, request: Request, on_finish: Callable[[], None] = lambda: None) -> None:
        self.request = request
        self.started = False
        self.finished = False
        self.crash_count = 0
        self._on_finish = on_finish
        self._events: list[Event] = []
        self._error: RequestError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def push(self, event: Event | RequestError) -> None:
        """Add an event, or the error that ends the request."""
        if self.finished:
            return
        if isinstance(event, RequestError):
            self._error, self.finished = event, True
        else:
            self.started = True
            self.finished = isinstance(event, Finished)
            self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self.finished:
            self._on_finish()

    def __aiter__(self) -> RequestHandle:
        return self

    async def __anext__(self) -> list[Event]:
        if not self._events and not self.finished:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._events:
            events, self._events = self._events, []
            return events
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

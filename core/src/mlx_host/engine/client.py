"""The host's side of a running model: asyncio on one end, the pipe on the other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from mlx_host.engine.messages import Cancel, LoadFailed, Loading, Logged, ModelInfo, Round, Shutdown, Submit
from mlx_host.engine.worker import Worker
from mlx_host.errors import EngineFailed, LoadError, RequestError
from mlx_host.events import Event, Finished
from mlx_host.requests import Request

log = logging.getLogger(__name__)


class Answer:
    """One request's events as they come: an asynchronous iterator of what has arrived since the last look."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.begun = False
        self.over = False
        self._arrived: deque[Event] = deque()
        self._error: RequestError | None = None
        self._waiting: asyncio.Future[None] | None = None

    def push(self, event: Event | RequestError) -> None:
        if isinstance(event, RequestError):
            self._error, self.over = event, True
        else:
            self.begun = True
            self.over = isinstance(event, Finished)
            self._arrived.append(event)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> list[Event]:
        if not self._arrived and not self.over:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if self._arrived:
            events = list(self._arrived)
            self._arrived.clear()
            return events
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration


class Engine:
    """A worker and the requests it works on. All methods are for the event loop that made it."""

    def __init__(self, worker: Worker, on_loading: Callable[[Loading], None] = lambda progress: None) -> None:
        self.worker = worker
        self._on_loading = on_loading
        self._loop = asyncio.get_running_loop()
        self._answers: dict[str, Answer] = {}
        self._ready: asyncio.Future[ModelInfo] = self._loop.create_future()
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self.last_sign = self._loop.time()
        # Sending may block while the worker computes, receiving does so by nature: a thread for each.
        threading.Thread(target=self._send, name="to model", daemon=True).start()
        threading.Thread(target=self._receive, name="from model", daemon=True).start()

    async def ready(self) -> ModelInfo:
        """Wait until the model is loaded; LoadError if it cannot be."""
        return await asyncio.shield(self._ready)

    @property
    def open(self) -> list[Answer]:
        """The requests that are being worked on."""
        return list(self._answers.values())

    def submit(self, answer: Answer) -> None:
        """Give a request to the worker; its events arrive in `answer`."""
        if self.ended.done():
            answer.push(EngineFailed(f"The model's process has ended ({self.ended.result()})."))
            return
        if not self._answers:
            self.last_sign = self._loop.time()
        self._answers[answer.request.id] = answer
        self._outbox.put(Submit(answer.request))

    def cancel(self, answer: Answer) -> None:
        """Stop working on a request, if it is not over already."""
        if self._answers.pop(answer.request.id, None) is not None:
            self._outbox.put(Cancel(answer.request.id))

    async def stop(self, timeout: float) -> None:
        """Ask the worker to leave; after `timeout` seconds, end it."""
        self._outbox.put(Shutdown())
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), timeout)
        except TimeoutError:
            self.worker.kill()
            await asyncio.shield(self.ended)

    def _send(self) -> None:
        try:
            while (message := self._outbox.get()) is not None:
                self.worker.connection.send(message)
        except OSError:
            pass  # The receiving thread sees the end of the pipe, too, and tells.

    def _receive(self) -> None:
        try:
            while True:
                message = self.worker.connection.recv()
                if isinstance(message, Logged):
                    logging.getLogger(message.record.name).handle(message.record)
                else:
                    self._loop.call_soon_threadsafe(self._take, message)
        except (EOFError, OSError):
            how = self.worker.wait()
            self._outbox.put(None)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._end, how)

    def _take(self, message: Round | Loading | ModelInfo | LoadFailed) -> None:
        self.last_sign = self._loop.time()
        match message:
            case Round(events):
                for id, event in events:
                    answer = self._answers.get(id)
                    if answer is None:
                        continue  # Cancelled while this was on its way.
                    answer.push(event)
                    if answer.over:
                        del self._answers[id]
            case Loading():
                self._on_loading(message)
            case ModelInfo():
                self._ready.set_result(message)
            case LoadFailed(error):
                self._ready.set_exception(error)

    def _end(self, how: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(LoadError(f"The model's process ended while it was loading ({how})."))
        self.ended.set_result(how)

"""The host's side of a running model: asyncio on one end, the pipe on the other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from mlx_host._engine.ipc import (
    Cancel,
    Closed,
    LoadFailed,
    Loading,
    Logged,
    Round,
    Shutdown,
    Submit,
    send,
)
from mlx_host._engine.worker import Worker
from mlx_host.backend import Capabilities
from mlx_host.errors import EngineFailed, LoadError, RequestError
from mlx_host.events import Event, Finished
from mlx_host.requests import Request

log = logging.getLogger(__name__)

# How often, and how many times, to look whether the stacks of a stalled process have been written.
TRACE_SECONDS = 0.1
TRACE_LOOKS = 20


class Answer:
    """One request's events as they come: an asynchronous iterator of what has arrived since the last look.

    `begun` tells that the model has said something, `over` that nothing more will come; then `on_over` is called.
    `deaths` counts the processes that ended while they had this request.
    """

    def __init__(self, request: Request, on_over: Callable[[], None] = lambda: None) -> None:
        self.request = request
        self.begun = False
        self.over = False
        self.deaths = 0
        self._on_over = on_over
        self._arrived: list[Event] = []
        self._error: RequestError | None = None
        self._waiting: asyncio.Future[None] | None = None

    def push(self, event: Event | RequestError) -> None:
        if self.over:
            return
        if isinstance(event, RequestError):
            self._error, self.over = event, True
        else:
            self.begun = True
            self.over = isinstance(event, Finished)
            self._arrived.append(event)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        if self.over:
            self._on_over()

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> list[Event]:
        if not self._arrived and not self.over:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if self._arrived:
            events, self._arrived = self._arrived, []
            return events
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration


class Engine:
    """A worker and the requests it works on. All methods are for the event loop that made it.

    `rounds` counts the rounds by how many requests said something in them. `last_sign` is when the model last did, or
    when it was first given something to do; it means nothing unless the engine is `busy`.
    """

    def __init__(
        self,
        worker: Worker,
        on_loading: Callable[[Loading], None] = lambda progress: None,
        rounds: Counter[int] | None = None,
    ) -> None:
        self.worker = worker
        self.rounds: Counter[int] = Counter() if rounds is None else rounds
        self._on_loading = on_loading
        self._loop = asyncio.get_running_loop()
        self._answers: dict[str, Answer] = {}
        self._closing: set[str] = set()
        self._ready: asyncio.Future[Capabilities] = self._loop.create_future()
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self.last_sign = self._loop.time()
        # Sending may block while the worker computes, receiving does so by nature: a thread for each.
        self._sender = threading.Thread(target=self._send, name="to model", daemon=True)
        self._sender.start()
        threading.Thread(target=self._receive, name="from model", daemon=True).start()

    async def ready(self) -> Capabilities:
        """Wait until the model is loaded; LoadError if it cannot be."""
        return await asyncio.shield(self._ready)

    @property
    def open(self) -> list[Answer]:
        """The requests that are being worked on."""
        return list(self._answers.values())

    @property
    def busy(self) -> bool:
        """Whether the model has something to say: an answer, or that a cancelled request is closed."""
        return bool(self._answers or self._closing)

    def submit(self, answer: Answer) -> None:
        """Give a request to the worker; its events arrive in `answer`."""
        if not self.busy:
            self.last_sign = self._loop.time()
        self._answers[answer.request.id] = answer
        self._outbox.put(Submit(answer.request))

    def cancel(self, answer: Answer) -> None:
        """Stop working on a request, if it is not over already."""
        id = answer.request.id
        if self._answers.pop(id, None) is not None:
            self._closing.add(id)
            self._outbox.put(Cancel(id))

    async def stop(self, timeout: float) -> None:
        """Ask the worker to leave; after `timeout` seconds, or if it is still loading, end it."""
        if not self._ready.done():
            self.worker.kill()
        self._outbox.put(Shutdown())
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), timeout)
        except TimeoutError:
            self.worker.kill()
            await asyncio.shield(self.ended)

    async def stacks(self) -> str:
        """Ask the worker where its threads are; empty if it does not answer even that."""
        self.worker.interrupt()
        text = ""
        for _ in range(TRACE_LOOKS):
            await asyncio.sleep(TRACE_SECONDS)
            more = self.worker.traces()
            if text and not more:
                break
            text += more
        return text

    def _send(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                send(self.worker.connection, message)
            except OSError:
                return  # The receiving thread sees the end of the pipe, too, and tells.
            except Exception as error:  # noqa: BLE001  whatever pickling meets
                # One request that cannot be sent must not cost those behind it.
                assert isinstance(message, Submit)
                failed = EngineFailed(f"The request cannot be handed to the model: {type(error).__name__}: {error}")
                self._loop.call_soon_threadsafe(self._take, Round([(message.request.id, failed)]))

    def _receive(self) -> None:
        try:
            while True:
                message = self.worker.connection.recv()
                if isinstance(message, Logged):
                    _log(message)
                else:
                    self._loop.call_soon_threadsafe(self._take, message)
        except (EOFError, OSError):
            pass
        except Exception:
            # What a plugin's event or error raises while it is unpickled; nothing behind it can be read, either.
            log.exception("the model's process sent what cannot be read")
            self.worker.kill()
        how = self.worker.wait()
        if traces := self.worker.traces():
            log.error("the model's process ended (%s); its stacks:\n%s", how, traces)
        self._outbox.put(None)
        self._sender.join()
        self.worker.close()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end, how)

    def _take(self, message: Round | Closed | Loading | Capabilities | LoadFailed) -> None:
        match message:
            case Round(events):
                self.last_sign = self._loop.time()
                if events:
                    self.rounds[len({id for id, _ in events})] += 1
                for id, event in events:
                    answer = self._answers.get(id)
                    if answer is None:
                        continue  # Cancelled while this was on its way.
                    answer.push(event)
                    if answer.over:
                        self._answers.pop(id, None)
            case Closed(id):
                self._closing.discard(id)
            case Loading():
                self._on_loading(message)
            case Capabilities():
                self._ready.set_result(message)
            case LoadFailed(error):
                self._ready.set_exception(error)

    def _end(self, how: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(LoadError(f"The model's process ended while it was loading ({how})."))
        self.ended.set_result(how)


def _log(logged: Logged) -> None:
    logger = logging.getLogger(logged.logger)
    if logger.isEnabledFor(logged.level):
        record = logger.makeRecord(logged.logger, logged.level, "", 0, "%s", (logged.text,), None)
        record.created = logged.created
        logger.handle(record)

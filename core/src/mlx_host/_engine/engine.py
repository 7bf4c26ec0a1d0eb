"""The host's side of a model's process: asyncio on one end, the pipe on the other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from queue import SimpleQueue

from mlx_host._engine.ipc import (
    Cancel,
    CancelAck,
    LoadFailed,
    Loading,
    LogMessage,
    Shutdown,
    StepOutput,
    Submit,
    send,
)
from mlx_host._engine.request_handle import RequestHandle
from mlx_host._engine.worker import Worker
from mlx_host.backend import Capabilities
from mlx_host.errors import EngineError, LoadError
from mlx_host.requests import Request

log = logging.getLogger(__name__)

# How often, and how many times, to check whether a stalled process has written its stacks.
STACK_POLL_INTERVAL = 0.1
MAX_STACK_POLLS = 20


class WorkerExitedError(LoadError):
    """The model's process exited by itself, while it was loading or later."""


class Engine:
    """A worker and the requests that it runs. All methods are for the event loop that created it.

    `batch_sizes` counts steps by the number of requests that had output. `last_progress_at` is when the worker last
    sent a step's output or a heartbeat, or was given a request while idle; it is meaningless unless the engine is
    `busy`. `exited` becomes the reason when the process has exited.
    """

    def __init__(
        self,
        worker: Worker,
        on_progress: Callable[[Loading], None] = lambda progress: None,
        batch_sizes: Counter[int] | None = None,
    ) -> None:
        self.worker = worker
        self.batch_sizes: Counter[int] = Counter() if batch_sizes is None else batch_sizes
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._handles: dict[str, RequestHandle] = {}
        self._cancelling: set[str] = set()
        self._ready: asyncio.Future[Capabilities] = self._loop.create_future()
        self._outbox: SimpleQueue[Request | Cancel | Shutdown | None] = SimpleQueue()
        self.exited: asyncio.Future[str] = self._loop.create_future()
        self.last_progress_at = self._loop.time()
        # Sending may block while the worker computes, receiving always blocks: a thread for each.
        self._sender = threading.Thread(target=self._send, name="to model", daemon=True)
        self._sender.start()
        threading.Thread(target=self._receive, name="from model", daemon=True).start()

    async def ready(self) -> Capabilities:
        """Wait until the model is loaded; LoadError if it cannot be, WorkerExitedError if its process exited."""
        return await asyncio.shield(self._ready)

    @property
    def alive(self) -> bool:
        """Whether the process has not exited."""
        return not self.exited.done()

    @property
    def handles(self) -> list[RequestHandle]:
        """The running requests."""
        return list(self._handles.values())

    @property
    def busy(self) -> bool:
        """Whether the worker owes output or a CancelAck."""
        return bool(self._handles or self._cancelling)

    def submit(self, handle: RequestHandle) -> None:
        """Send a request to the worker; its events arrive in `handle`."""
        if not self.busy:
            self.last_progress_at = self._loop.time()
        self._handles[handle.request.id] = handle
        self._outbox.put(handle.request)

    def cancel(self, handle: RequestHandle) -> None:
        """Cancel a request, unless it has finished."""
        id = handle.request.id
        if self._handles.pop(id, None) is not None:
            self._cancelling.add(id)
            self._outbox.put(Cancel(id))

    async def stop(self, timeout: float) -> None:
        """Shut the worker down; kill it after `timeout` seconds, or at once if it is still loading."""
        if not self._ready.done():
            self.worker.kill()
        self._outbox.put(Shutdown())
        try:
            await asyncio.wait_for(asyncio.shield(self.exited), timeout)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Kill the worker and wait until it has exited."""
        self.worker.kill()
        await asyncio.shield(self.exited)

    async def dump_stacks(self) -> str:
        """Return the stacks of the worker's threads; empty if it does not respond."""
        self.worker.request_stack_dump()
        text = ""
        for _ in range(MAX_STACK_POLLS):
            await asyncio.sleep(STACK_POLL_INTERVAL)
            more = self.worker.read_stack_traces()
            if text and not more:
                break
            text += more
        return text

    def _send(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                send(self.worker.connection, Submit.of(message) if isinstance(message, Request) else message)
            except OSError:
                return  # The receiving thread sees the end of the pipe, too, and reports it.
            except Exception as error:  # noqa: BLE001  whatever pickling raises
                # A request that cannot be sent must not fail those behind it.
                assert isinstance(message, Request)
                failed = EngineError(f"The request cannot be sent to the model: {type(error).__name__}: {error}")
                self._loop.call_soon_threadsafe(self._handle_message, StepOutput([(message.id, failed)]))

    def _receive(self) -> None:
        try:
            while True:
                message = self.worker.connection.recv()
                if isinstance(message, LogMessage):
                    _log(message)
                else:
                    self._loop.call_soon_threadsafe(self._handle_message, message)
        except (EOFError, OSError):
            pass
        except Exception:
            # Raised by unpickling a plugin's event or error; nothing after it can be received, either.
            log.exception("received a message from the model's process that cannot be unpickled")
            self.worker.kill()
        reason = self.worker.wait()
        if traces := self.worker.read_stack_traces():
            log.error("the model's process exited (%s); its stacks:\n%s", reason, traces)
        self._outbox.put(None)
        self._sender.join()
        self.worker.close()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._handle_exit, reason)

    def _handle_message(self, message: StepOutput | CancelAck | Loading | Capabilities | LoadFailed) -> None:
        match message:
            case StepOutput(events):
                self.last_progress_at = self._loop.time()
                if events:
                    self.batch_sizes[len({id for id, _ in events})] += 1
                for id, event in events:
                    handle = self._handles.get(id)
                    if handle is None:
                        continue  # Cancelled while this was on its way.
                    handle.push(event)
                    if handle.finished:
                        self._handles.pop(id, None)
            case CancelAck(id):
                self._cancelling.discard(id)
            case Loading():
                self._on_progress(message)
            case Capabilities():
                self._ready.set_result(message)
            case LoadFailed(error):
                self._ready.set_exception(error)

    def _handle_exit(self, reason: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(WorkerExitedError(f"The model's process exited while loading ({reason})."))
        self.exited.set_result(reason)


def _log(message: LogMessage) -> None:
    logger = logging.getLogger(message.logger)
    if not logger.isEnabledFor(message.level):
        return
    record = logger.makeRecord(message.logger, message.level, "", 0, "%s", (message.text,), None)
    record.created = message.created
    try:
        logger.handle(record)
    except Exception:
        # A filter or handler of this process that raises must not end the model's process.
        log.exception("a log record of the model's process could not be handled")

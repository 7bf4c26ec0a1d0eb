"""The host's side of a model's worker: connects asyncio with the pipe to the process.

States of an engine:

    state      `ready()`       next state
    STARTING   waits           READY by Capabilities; FAILED by LoadFailed; EXITED if the process exits
    READY      capabilities    EXITED if the process exits, by itself or after Shutdown or a kill
    FAILED     LoadError       EXITED when the process has exited
    EXITED     either          none; `exited` has the reason

States of a request. STARTED and FINISHED are attributes of its RequestHandle, see there:

    state        in                next state
    SUBMITTED    `handles`         STARTED by its first event; FINISHED by an error; CANCELLING by `cancel`
    STARTED      `handles`         FINISHED by its last event or an error; CANCELLING by `cancel`
    CANCELLING   `_cancelling`     CANCELLED by CancelAck; events that arrive before that are dropped
    FINISHED     -                 none
    CANCELLED    -                 none

If the process exits, SUBMITTED and STARTED requests remain in `handles`: the served model fails or retries them.
"""

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

# A stalled process is polled for its stack traces at this interval in seconds, up to MAX_STACK_POLLS times.
STACK_POLL_INTERVAL = 0.1
MAX_STACK_POLLS = 20


class WorkerExitedError(LoadError):
    """The model's process exited unexpectedly, while it was loading the model or later."""


class Engine:
    """A worker and the requests that it runs. Use it only on the event loop that created it.

    `batch_sizes` counts steps by the number of requests that produced output. `last_progress_at`, which is valid while
    the engine is `busy`, is the time of the last output or heartbeat, or of the first request after an idle period.
    The result of `exited` is the reason why the process has exited.
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
        # Two threads, because both directions block: sending while the worker computes, receiving always.
        self._sender = threading.Thread(target=self._send, name="send to model", daemon=True)
        self._sender.start()
        threading.Thread(target=self._receive, name="receive from model", daemon=True).start()

    async def ready(self) -> Capabilities:
        """Wait until the model is loaded; LoadError if that fails, WorkerExitedError if the process exits."""
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
        """Whether the worker is expected to send output or a CancelAck."""
        return bool(self._handles or self._cancelling)

    def submit(self, handle: RequestHandle) -> None:
        """Send a request to the worker, which pushes its events to `handle`."""
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
        """Shut the worker down; kill it after `timeout` seconds, or at once if the model is not loaded yet."""
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
        """Return the stack traces of the worker's threads; an empty string if it does not respond."""
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
                return  # The receiving thread also notices that the pipe is closed, and reports it.
            except Exception as error:  # noqa: BLE001  pickling raises any exception
                # A request that cannot be pickled must not affect the others.
                assert isinstance(message, Request)
                failed = EngineError(
                    f"The request could not be sent to the model's process: {type(error).__name__}: {error}"
                )
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
            # Raised by unpickling a plugin's event or error. The messages after it cannot be trusted, either.
            log.exception("a message from the model's process could not be unpickled; killing the process")
            self.worker.kill()
        reason = self.worker.wait()
        if traces := self.worker.read_stack_traces():
            log.error("the model's process exited (%s); stack traces:\n%s", reason, traces)
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
                        continue  # The event was sent before the cancellation arrived.
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
        # An exception of a filter or handler must not end the receiving thread, and with it the worker.
        log.exception("a log record of the model's process could not be processed")

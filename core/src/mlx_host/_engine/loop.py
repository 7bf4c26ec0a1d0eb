"""The generation loop of a worker: each step advances every running request and sends the events that it yields."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from queue import Empty, SimpleQueue

from mlx_host._engine.event_checker import EventChecker, EventProtocolError
from mlx_host._engine.ipc import Cancel, CancelAck, Shutdown, StepOutput, Submit
from mlx_host._engine.stop_strings import with_stops
from mlx_host.backend import Capabilities, Model
from mlx_host.errors import EngineError, RequestError, UnsupportedRequestError
from mlx_host.events import Event, Finished, iter_events
from mlx_host.requests import GenerationRequest, Request

log = logging.getLogger(__name__)

Message = Submit | Cancel | Shutdown
Inbox = SimpleQueue[Message]
# While no request yields events, for example during prefill, a heartbeat is sent at this interval in seconds.
HEARTBEAT_INTERVAL = 0.25
# A step without events that took less than MIN_WORK_TIME did no work, so the loop waits before the next one: with
# exponential backoff from MIN_WAIT to MAX_WAIT, so that no wait exceeds the time waited before. In seconds.
MIN_WORK_TIME = 0.001
MIN_WAIT = 0.0001
MAX_WAIT = 0.01


class Loop:
    """The running requests of one model, advanced on the calling thread; `backend` is its name in errors."""

    def __init__(self, model: Model, backend: str = "") -> None:
        self._model = model
        self._backend = backend
        self._running: dict[str, Iterator[Event | None]] = {}

    @property
    def idle(self) -> bool:
        return not self._running

    def submit(self, message: Submit) -> None:
        """Start a request; the next step advances it first."""
        self._running[message.id] = self._start(message)

    def _start(self, message: Submit) -> Iterator[Event | None]:
        # A generator, so that an exception is raised by `step`, and ends only this request.
        try:
            request = message.request()
        except Exception as error:
            log.exception("request %s could not be unpickled", message.id)
            raise EngineError(
                f"The request could not be unpickled in the model's process: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(request, self._model.supported_requests):
            raise UnsupportedRequestError(f"This model does not support {request.task} requests.", param="model")
        events = self._checked(request)
        if isinstance(request, GenerationRequest) and request.stop:
            events = with_stops(events, request.stop, request.n, include=request.include_stop)
        try:
            yield from events
        finally:
            _close(events)

    def _checked(self, request: Request) -> Iterator[Event | None]:
        """Yield a model's output; EngineError if it violates the event protocol."""
        events = self._model.generate(request)
        checker = EventChecker(request)
        try:
            for step in events:
                checker.check_step(step)
                yield step
            checker.check_end()
        except EventProtocolError as error:
            log.error("request %s: backend %r violated the event protocol: %s", request.id, self._backend, error)
            raise EngineError(f"Backend {self._backend!r} violated the event protocol: {error}.") from error
        finally:
            _close(events)

    def cancel(self, id: str) -> None:
        """Close a request, unless it has finished."""
        if id in self._running:
            self._close(id)

    def close(self) -> None:
        """Close every request."""
        for id in list(self._running):
            self._close(id)

    def _close(self, id: str) -> None:
        try:
            _close(self._running.pop(id))
        except Exception:
            log.exception("request %s: the model raised an exception when the request was closed", id)

    def step(self) -> list[tuple[str, Event | RequestError]]:
        """Advance every running request once; return their events.

        The newest is advanced first, so that it has joined the batch when an older one runs the batch's forward pass.
        """
        output: list[tuple[str, Event | RequestError]] = []
        for id in reversed(list(self._running)):
            try:
                event = next(self._running[id])
            except RequestError as error:
                self._close(id)
                output.append((id, error))
            except Exception as error:
                # A backend may raise any exception, which ends only this request.
                log.exception("request %s: the model raised an exception", id)
                self._close(id)
                output.append((id, EngineError(f"The model failed: {type(error).__name__}: {error}")))
            else:
                if event is None:
                    continue
                events = iter_events(event)
                output += [(id, one) for one in events]
                if events and isinstance(events[-1], Finished):
                    self._close(id)
        return output


def _close(events: Iterator[Event | None]) -> None:
    if isinstance(events, Generator):
        events.close()


def capabilities(model: Model) -> Capabilities:
    """Return the capabilities of a loaded model."""
    return Capabilities(
        model.supported_requests,
        model.concurrency,
        model.context_length,
        model.chat_template,
        model.supports_structured_outputs,
        supported_parameters=model.supported_parameters,
        sampling_defaults=dict(model.sampling_defaults),
        input_modalities=model.input_modalities,
    )


def run(model: Model, inbox: Inbox, send: Callable[[StepOutput | CancelAck], None], backend: str = "") -> None:
    """Run the model until a Shutdown arrives."""
    loop = Loop(model, backend)
    last_sent = time.monotonic()
    wait = 0.0
    while True:
        while (message := _next_message(inbox, block=loop.idle, timeout=wait)) is not None:
            wait = 0.0
            match message:
                case Submit():
                    loop.submit(message)
                case Cancel(id):
                    loop.cancel(id)
                    send(CancelAck(id))
                case Shutdown():
                    loop.close()
                    model.close()
                    return
        started = time.monotonic()
        output = loop.step()
        now = time.monotonic()
        if output or now - last_sent > HEARTBEAT_INTERVAL:
            last_sent = now
            send(StepOutput(output))
        worked = output or now - started >= MIN_WORK_TIME
        wait = 0.0 if worked else min(max(2 * wait, MIN_WAIT), MAX_WAIT)


def _next_message(inbox: Inbox, *, block: bool, timeout: float) -> Message | None:
    """Return the next message; wait for it indefinitely if `block`, else up to `timeout` seconds."""
    if block:
        return inbox.get()
    if not timeout and inbox.empty():
        return None
    try:
        return inbox.get(timeout=timeout) if timeout else inbox.get_nowait()
    except Empty:
        return None

"""The loop that runs a model: it advances the open generators in turn and says what they said, round by round."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from queue import Empty, SimpleQueue

from mlx_host._engine.ipc import Cancel, Closed, Round, Shutdown, Submit
from mlx_host._engine.stop_strings import with_stops
from mlx_host.backend import Capabilities, Model
from mlx_host.errors import EngineFailed, RequestError, UnsupportedRequest
from mlx_host.events import Event, Finished, Started, each
from mlx_host.requests import GenerationRequest, Request

log = logging.getLogger(__name__)

Inbox = SimpleQueue[Submit | Cancel | Shutdown]
# While all requests give way, waiting for something, the host hears so often, in seconds, that the model does not hang.
SIGN_OF_LIFE = 0.25


class Loop:
    """The open requests of one model, advanced on the calling thread."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._open: dict[str, Iterator[Event | None]] = {}

    @property
    def idle(self) -> bool:
        return not self._open

    def submit(self, request: Request) -> None:
        """Open a request; it is first advanced in the next round."""
        self._open[request.id] = self._begin(request)

    def _begin(self, request: Request) -> Iterator[Event | None]:
        # A generator, so that whatever generate() itself raises also arrives within the round.
        if not isinstance(request, self._model.serves):
            raise UnsupportedRequest(f"This model does not serve {request.task} requests.", param="model")
        events = self._model.generate(request)
        if isinstance(request, GenerationRequest) and request.stop:
            events = with_stops(events, request.stop, request.n)
        try:
            yield from _started(events)
            yield from events
        finally:
            if isinstance(events, Generator):
                events.close()

    def cancel(self, id: str) -> None:
        """Close a request; one that is over already is none of our business."""
        if id in self._open:
            self._close(id)

    def close(self) -> None:
        """Close every request."""
        for id in list(self._open):
            self._close(id)

    def _close(self, id: str) -> None:
        events = self._open.pop(id)
        if isinstance(events, Generator):
            try:
                events.close()
            except Exception:
                log.exception("request %s: the model failed while the request was being closed", id)

    def round(self) -> list[tuple[str, Event | RequestError]]:
        """Advance every open request by one step; return what was said.

        The newest goes first: where an older one steps the batch for all, the newcomer is in it already.
        """
        said: list[tuple[str, Event | RequestError]] = []
        for id in reversed(list(self._open)):
            try:
                event = next(self._open[id])
            except RequestError as error:
                self._close(id)
                said.append((id, error))
            except StopIteration:
                self._close(id)
                said.append((id, EngineFailed("The model ended its answer without saying so (no Finished event).")))
            except Exception as error:
                # A model is foreign code; its fault costs this request and no other.
                log.exception("request %s: the model failed", id)
                self._close(id)
                said.append((id, EngineFailed(f"The model failed: {type(error).__name__}: {error}")))
            else:
                if event is None:
                    continue
                if not isinstance(event, Event):
                    self._close(id)
                    said.append((id, EngineFailed(f"The model said {event!r}, which is no event.")))
                    continue
                events = each(event)
                said += [(id, one) for one in events]
                if events and isinstance(events[-1], Finished):
                    self._close(id)
        return said


def _started(events: Iterator[Event | None]) -> Iterator[Event | None]:
    """Pass an answer on as far as its first event, which must be Started."""
    for event in events:
        if isinstance(event, Event) and not isinstance(first := each(event)[0], Started):
            raise EngineFailed(f"The model said {type(first).__name__} before Started.")
        yield event
        if event is not None:
            return


def info(model: Model) -> Capabilities:
    """Say what the host must know of a loaded model."""
    return Capabilities(model.serves, model.concurrency, model.context_length, model.chat_template, model.constrains)


def run(model: Model, inbox: Inbox, send: Callable[[Round | Closed], None]) -> None:
    """Serve until a Shutdown arrives."""
    loop = Loop(model)
    heard = time.monotonic()
    while True:
        # With nothing to do, wait; else take what has come and go on.
        while loop.idle or not inbox.empty():
            try:
                message = inbox.get(block=loop.idle)
            except Empty:
                break
            match message:
                case Submit(request):
                    loop.submit(request)
                case Cancel(id):
                    loop.cancel(id)
                    send(Closed(id))
                case Shutdown():
                    loop.close()
                    model.close()
                    return
        said = loop.round()
        now = time.monotonic()
        if said or now - heard > SIGN_OF_LIFE:
            heard = now
            send(Round(said))

"""One request on its way through a model: admitted, answered, recorded, and cleaned up whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from mlx_host._engine import Answer
from mlx_host._host.served_model import ServedModel
from mlx_host.errors import QueueTimeout, RequestError
from mlx_host.events import ChoiceFinished, Echoed, Event, Finished, Progress, Started, Text
from mlx_host.requests import Request


@dataclass(frozen=True)
class RequestRecord:
    """What became of a request; times in seconds, tokens counted.

    `outcome` is the finish reason ("stop", "length", "tool_calls"), "cancelled", or an error's code or type.
    `started_at` is in seconds since the epoch; `first_token` is None if none came. `gaps` are the times between one
    piece of the answer and the next. `warning` says what was left unparsed in a chat answer.
    """

    id: str
    model: str
    task: str
    outcome: str
    started_at: float
    queued: float
    first_token: float | None
    duration: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    gaps: tuple[float, ...] = ()
    warning: str | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the first token; None where there is nothing to measure."""
        if self.first_token is None or self.completion_tokens < 2 or self.duration <= self.first_token:
            return None
        return (self.completion_tokens - 1) / (self.duration - self.first_token)


class Exchange:
    """An asynchronous context that holds a slot of the model, and iterates over what the model says.

    The queue timeout covers waiting and answering; with `streams` it ends with the first text, since an answer that
    flows is not cut. `outcome` may be set by who leaves early on purpose. The slot is free as soon as the model is
    done, however long its words take to be read.
    """

    def __init__(
        self, model: ServedModel, request: Request, streams: bool, on_end: Callable[[RequestRecord], None]
    ) -> None:
        self.outcome: str | None = None
        self.warning: str | None = None
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self._model = model
        self._answer = Answer(request, self._leave)
        self._streams = streams
        self._on_end = on_end
        self._holds_slot = False
        self._deadline: asyncio.TimerHandle | None = None
        self._started_at = time.time()
        self._now = asyncio.get_running_loop().time
        self._begin = self._slot_at = self._first_at = self._last_at = 0.0
        self._gaps: list[float] = []

    @property
    def request(self) -> Request:
        return self._answer.request

    async def __aenter__(self) -> Exchange:
        loop = asyncio.get_running_loop()
        self._begin = loop.time()
        deadline = self._begin + self._model.limits.queue_timeout
        try:
            self._model.refuse_unless_up()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._model.admission.enter(self._answer.request.priority)
            except TimeoutError:
                raise self._too_late() from None
            self._holds_slot = True
            self._slot_at = loop.time()
            self._model.submit(self._answer)
        except BaseException as error:
            self._end(error)
            raise
        self._deadline = loop.call_at(deadline, self._expire)
        return self

    def __aiter__(self) -> Exchange:
        return self

    async def __anext__(self) -> list[Event]:
        events = await anext(self._answer)
        said = False
        for event in events:
            match event:
                case Text(tokens=tokens):
                    said = True
                    self.completion_tokens += tokens
                case Started():
                    self.prompt_tokens, self.cached_tokens = event.prompt_tokens, event.cached_tokens
                case Finished():
                    self.completion_tokens = max(self.completion_tokens, event.completion_tokens)
                    self.outcome = self.outcome or event.reason
                case Progress() | Echoed() | ChoiceFinished():
                    pass
                case _:
                    said = True
        if said:
            self._tick()
        return events

    def _tick(self) -> None:
        """Note that a piece of the answer has come."""
        now = self._now()
        if self._first_at:
            self._gaps.append(now - self._last_at)
        else:
            self._first_at = now
            if self._streams:
                self._no_deadline()
        self._last_at = now

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(error)

    def _too_late(self) -> QueueTimeout:
        return QueueTimeout(f"Request processing timed out after {self._model.limits.queue_timeout:g} seconds")

    def _expire(self) -> None:
        self._model.cancel(self._answer)
        self._answer.push(self._too_late())

    def _no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _leave(self) -> None:
        if self._holds_slot:
            self._holds_slot = False
            self._model.admission.leave(self._now() - self._slot_at if self._answer.over else None)

    def _end(self, error: BaseException | None) -> None:
        now = self._now()
        self._no_deadline()
        if self._slot_at:
            self._model.cancel(self._answer)
        self._leave()
        request = self._answer.request
        self._on_end(
            RequestRecord(
                id=request.id,
                model=self._model.name,
                task=request.task,
                outcome=self._outcome(error),
                started_at=self._started_at,
                queued=(self._slot_at or now) - self._begin,
                first_token=self._first_at - self._begin if self._first_at else None,
                duration=now - self._begin,
                prompt_tokens=self.prompt_tokens,
                cached_tokens=self.cached_tokens,
                completion_tokens=self.completion_tokens,
                warning=self.warning,
                gaps=tuple(self._gaps),
            )
        )

    def _outcome(self, error: BaseException | None) -> str:
        match error:
            case RequestError():
                return error.code or error.type
            case None | GeneratorExit() | asyncio.CancelledError():
                return self.outcome or "cancelled"
            case _:
                return "internal_error"

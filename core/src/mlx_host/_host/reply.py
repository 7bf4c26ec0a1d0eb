"""The reply to one submitted request: it waits for a slot, yields the model's events, and is recorded at its end.

    state       slot   next state
    NEW         no     QUEUED by entering the reply; FINISHED if the model is unavailable or the queue is full
    QUEUED      no     ADMITTED when the queue grants a slot; FINISHED by the deadline, an error or a cancellation
    ADMITTED    yes    STREAMING by the first output; RELEASED
    STREAMING   yes    RELEASED
    RELEASED    no     FINISHED by leaving the reply: events may still have to be read
    FINISHED    no     none

The handle finishes in ADMITTED or STREAMING by the last event, an error of the model, or the deadline, and this
releases the slot, however slowly the client reads. Leaving the reply earlier cancels the request, releases the slot and
enters FINISHED directly. The deadline ends with STREAMING if it is Deadline.FIRST_OUTPUT. `on_end` receives the record
exactly once, on entering FINISHED, with the outcome "cancelled", the code of the error, or the finish reason.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto
from types import TracebackType
from typing import Self

from mlx_host._engine import RequestHandle
from mlx_host._host.lifecycle import STARTING
from mlx_host._host.output_processor import OutputProcessor
from mlx_host._host.served_model import ServedModel
from mlx_host.api import ChatEvent, Deadline, ModelStatus, RequestRecord
from mlx_host.errors import QueueTimeoutError, RequestError
from mlx_host.events import (
    ChoiceFinished,
    Event,
    Finished,
    Progress,
    PromptEcho,
    Started,
    TextDelta,
    TranscriptionStarted,
)
from mlx_host.requests import ChatRequest, Request

QUEUED = Progress("queued", 0)


class ReplyState(Enum):
    """The state of a reply; see the table above."""

    NEW = auto()
    QUEUED = auto()
    ADMITTED = auto()
    STREAMING = auto()
    RELEASED = auto()
    FINISHED = auto()


# The states in which a reply occupies a slot.
HOLDS_SLOT = frozenset({ReplyState.ADMITTED, ReplyState.STREAMING})


class ModelReply:
    """A reply that yields the model's events; see `mlx_host.api.Reply`.

    A wrapper that leaves the reply before its last event may set `outcome`, which is "cancelled" otherwise. It sets
    `output_warning` to a warning about the output; `warning` is the model's.
    """

    def __init__(
        self,
        model: ServedModel,
        request: Request,
        deadline: Deadline,
        keep_alive: float,
        on_end: Callable[[RequestRecord], None],
    ) -> None:
        self.model: ModelStatus = model.status()
        self.keep_alive = keep_alive
        self.outcome: str | None = None
        self.warning: str | None = None
        self.output_warning: str | None = None
        self.has_unparsed_markup = False
        self.repaired_calls = 0
        self._progress: Progress | None = QUEUED
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.served = model
        self._handle = RequestHandle(request, self._release)
        self._deadline_kind = deadline
        self._on_end = on_end
        self._state = ReplyState.NEW
        self._deadline: asyncio.TimerHandle | None = None
        self._started_at = time.time()
        self._now = asyncio.get_running_loop().time
        # Times of the event loop; 0 if not reached.
        self._arrived_at = self._admitted_at = self._first_output_at = self._last_output_at = 0.0
        self._gaps: list[float] = []
        self._first_output_tokens = 0
        self._audio_seconds: float | None = None

    @property
    def request(self) -> Request:
        return self._handle.request

    @property
    def progress(self) -> Progress | None:
        if self._progress is QUEUED and self.served.state in STARTING:
            return self.served.load_progress or QUEUED
        return self._progress

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._arrived_at = loop.time()
        has_deadline = self._deadline_kind is not Deadline.NONE
        deadline = self._arrived_at + self.served.limits.queue_timeout if has_deadline else None
        try:
            self.served.check_available()
            self._state = ReplyState.QUEUED
            try:
                async with asyncio.timeout_at(deadline):
                    await self.served.queue.acquire(self.request.id, self.request.priority)
            except TimeoutError:
                raise self._timeout() from None
            self._state = ReplyState.ADMITTED
            self._admitted_at = loop.time()
            self.served.submit(self._handle)
        except BaseException as error:
            self._end(error)
            raise
        if deadline is not None:
            self._deadline = loop.call_at(deadline, self._expire)
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Event]:
        events = await anext(self._handle)
        has_output, text_tokens = False, 0
        for event in events:
            match event:
                case TextDelta(token_count=tokens):
                    has_output = True
                    self.completion_tokens += tokens
                    text_tokens += tokens
                case Started():
                    self.prompt_tokens, self.cached_tokens = event.prompt_tokens, event.cached_tokens
                    self.warning = event.warning
                    self._progress = None
                    if isinstance(event, TranscriptionStarted):
                        self._audio_seconds = event.duration
                case Finished():
                    self.completion_tokens = max(self.completion_tokens, event.completion_tokens)
                    self.outcome = self.outcome or event.reason
                case Progress():
                    self._progress = event
                case PromptEcho() | ChoiceFinished():
                    pass
                case _:
                    has_output = True
        if has_output:
            self._note_output(text_tokens)
        return events

    def _note_output(self, text_tokens: int) -> None:
        now = self._now()
        if self._progress is not None and self._progress.stage == "prefill":
            self._progress = None
        if self._first_output_at:
            self._gaps.append(now - self._last_output_at)
        else:
            self._first_output_at = now
            self._first_output_tokens = text_tokens
            if self._state is ReplyState.ADMITTED:
                self._state = ReplyState.STREAMING
            if self._deadline_kind is Deadline.FIRST_OUTPUT:
                self._cancel_deadline()
        self._last_output_at = now

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(error)

    def stop_generation(self) -> None:
        """Cancel the model's request, if it still runs, and release the slot: nothing more is needed."""
        self.served.cancel(self._handle)
        self._release()

    def _timeout(self) -> QueueTimeoutError:
        return QueueTimeoutError(f"Request processing timed out after {self.served.limits.queue_timeout:g} seconds.")

    def _expire(self) -> None:
        self.served.cancel(self._handle)
        self._handle.push(self._timeout())

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _release(self) -> None:
        """Release the slot, if the reply has one: when the handle finishes, or when the reply is left."""
        if self._state in HOLDS_SLOT:
            self._state = ReplyState.RELEASED
            self.served.queue.release(self._now() - self._admitted_at if self._handle.finished else None)

    def _end(self, error: BaseException | None) -> None:
        now = self._now()
        self._cancel_deadline()
        if self._admitted_at:
            self.served.cancel(self._handle)
        self._release()
        self._state = ReplyState.FINISHED
        request = self._handle.request
        self._on_end(
            RequestRecord(
                id=request.id,
                model=self.model.name,
                task=request.task,
                outcome=self._outcome(error),
                started_at=self._started_at,
                queued=(self._admitted_at or now) - self._arrived_at,
                first_token=self._first_output_at - self._arrived_at if self._first_output_at else None,
                duration=now - self._arrived_at,
                prompt_tokens=self.prompt_tokens,
                cached_tokens=self.cached_tokens,
                completion_tokens=self.completion_tokens,
                warning=self.output_warning,
                has_unparsed_markup=self.has_unparsed_markup,
                repaired_calls=self.repaired_calls,
                gaps=tuple(self._gaps),
                first_output_tokens=self._first_output_tokens or self.completion_tokens,
                audio_seconds=self._audio_seconds,
                error=self._error_message(error),
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

    def _error_message(self, error: BaseException | None) -> str | None:
        match error:
            case RequestError():
                return error.message
            case None | GeneratorExit() | asyncio.CancelledError():
                return None
            case _:
                return f"{type(error).__name__}: see the log for details."


class ChatReply:
    """A reply whose text is parsed into content, reasoning and tool calls.

    `request` is the prepared request; its stop strings are matched here, not by the model.
    """

    def __init__(self, reply: ModelReply, request: ChatRequest) -> None:
        self.request = request
        self._reply = reply
        self._processor: OutputProcessor | None = None

    @property
    def model(self) -> ModelStatus:
        return self._reply.model

    @property
    def progress(self) -> Progress | None:
        return self._reply.progress

    @property
    def warning(self) -> str | None:
        warnings = filter(None, (self._reply.warning, self._reply.output_warning))
        return " ".join(warnings) or None

    @property
    def prompt_tokens(self) -> int:
        return self._reply.prompt_tokens

    @property
    def cached_tokens(self) -> int:
        return self._reply.cached_tokens

    @property
    def completion_tokens(self) -> int:
        return self._reply.completion_tokens

    @property
    def keep_alive(self) -> float:
        return self._reply.keep_alive

    async def __aenter__(self) -> Self:
        await self._reply.__aenter__()
        served = self._reply.served
        # Not earlier: `--parser auto` is resolved when the model has loaded.
        self._processor = OutputProcessor(
            self.request,
            served.parsers,
            served.markup_signatures,
            stream_arguments=served.streams_arguments(self.request),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._reply.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[ChatEvent]:
        processor = self._processor
        assert processor is not None
        while not processor.finished:
            batch = processor.process(await anext(self._reply))
            if processor.finished:
                self._finish(processor)
            if batch:
                return batch
        raise StopAsyncIteration

    def _finish(self, processor: OutputProcessor) -> None:
        reply = self._reply
        reply.stop_generation()
        if processor.has_tool_calls and reply.outcome != "length":
            reply.outcome = "tool_calls"
        reply.outcome = reply.outcome or "stop"
        reply.output_warning = processor.warning
        reply.has_unparsed_markup = processor.has_unparsed_markup
        reply.repaired_calls = processor.repaired_calls

"""The interface that endpoints use: served models as snapshots, and replies to the requests they submit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from mlx_host.api.chat_events import ChatEvent
from mlx_host.backend import Capabilities
from mlx_host.errors import RequestError
from mlx_host.events import Event, Progress
from mlx_host.requests import ChatRequest, Request

EventT_co = TypeVar("EventT_co", covariant=True)


class ModelState(Enum):
    """The states of a served model; see `mlx_host._host.served_model` for the transitions."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A snapshot of a served model.

    `capabilities` is None until the model has loaded once. `concurrency` is the configured limit, or the loaded model's
    own where none is configured; 0 while neither is known. `error` is the last failure, and `retry_at` the time of the
    next attempt (seconds since the epoch) if there will be one. `enforces_tool_schemas` is None until the model has
    loaded once. `batch_sizes` counts decode steps by the number of requests that produced output.
    """

    name: str
    state: ModelState
    backend: str = ""
    capabilities: Capabilities | None = None
    concurrency: int = 0
    running: int = 0
    waiting: int = 0
    queue_size: int = 0
    restarts: int = 0
    error: str | None = None
    retry_at: float | None = None
    pid: int | None = None
    created: int = 0
    enforces_tool_schemas: bool | None = None
    batch_sizes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A finished request; times in seconds, tokens counted.

    `outcome` is the finish reason ("stop", "length", "tool_calls"), "cancelled", or an error's code or type.
    `started_at` is in seconds since the epoch; `first_token` is None if there was no output. `gaps` are the times
    between consecutive pieces of output. `warning` reports markup that no parser read.
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
        """Decoding speed after the first token; None where it cannot be measured."""
        if self.first_token is None or self.completion_tokens < 2 or self.duration <= self.first_token:
            return None
        return (self.completion_tokens - 1) / (self.duration - self.first_token)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who submitted a request. Servers without API keys know only `LOCAL`."""

    name: str


LOCAL = Caller("local")


class Deadline(Enum):
    """What a model's queue timeout limits: the whole response, the time to its first output, or nothing."""

    COMPLETE = "complete"
    FIRST_OUTPUT = "first_output"
    NONE = "none"

    @classmethod
    def of(cls, *, stream: bool) -> Deadline:
        """The deadline of an HTTP request: a stream that has begun is never cut off."""
        return cls.FIRST_OUTPUT if stream else cls.COMPLETE


class Reply(Protocol[EventT_co]):
    """The output of one submitted request: an async context manager and an iterator of batches of events.

    Entering waits for the model and for a slot; entering and the first batch raise the RequestError that rejects the
    request. Leaving releases the slot and cancels what is unfinished. The model is resolved and the request prepared
    once, before the reply is made: use `model` and `request`, never the request that was submitted. The counts are
    those so far. `progress` is the latest of: place in the queue, loading, prefill; None once there is output.
    """

    @property
    def model(self) -> ModelStatus: ...
    @property
    def request(self) -> Request: ...
    @property
    def progress(self) -> Progress | None: ...
    @property
    def warning(self) -> str | None: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def keep_alive(self) -> float:
        """Seconds of silence after which a stream sends a comment; 0: never."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Sequence[EventT_co]: ...


class Service(Protocol):
    """What endpoints can do; the host implements it, and `mlx_host.testing` has a double."""

    @property
    def stopping(self) -> bool:
        """Whether the server drains and takes no new requests."""
        ...

    def models(self, caller: Caller = LOCAL) -> Sequence[ModelStatus]:
        """Return a snapshot of every model that the caller may use, in the order of the configuration."""
        ...

    def model(self, name: str, caller: Caller = LOCAL) -> ModelStatus:
        """Return a snapshot of the model that `name` resolves to; ModelNotFoundError if there is none."""
        ...

    def submit(
        self, request: Request, *, caller: Caller = LOCAL, deadline: Deadline = Deadline.COMPLETE
    ) -> Reply[Event]:
        """Submit a request; the reply has the model's own events. Raises what rejects it at once."""
        ...

    def chat(
        self, request: ChatRequest, *, caller: Caller = LOCAL, deadline: Deadline = Deadline.COMPLETE
    ) -> Reply[ChatEvent]:
        """Submit a chat request; the model's parsers turn its text into content, reasoning and tool calls."""
        ...

    async def count_tokens(self, request: ChatRequest, *, caller: Caller = LOCAL) -> int:
        """Count the prompt tokens of a chat request, exactly as `chat` would send them to the model."""
        ...

    def cancel(self, request_id: str, error: RequestError) -> bool:
        """End a running or waiting request with an error; False if there is none with this id."""
        ...

    async def load(self, name: str) -> ModelStatus:
        """Load a configured model and wait until it is ready; LoadError if it cannot be loaded.

        A failed model is retried at once.
        """
        ...

    async def unload(self, name: str, *, force: bool = False) -> None:
        """Unload a model after its requests have finished; with `force`, end them with an error."""
        ...

    def changes(self) -> AsyncIterator[ModelStatus]:
        """Iterate over snapshots of models as their state changes."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start background work that shutting down waits for, within the shutdown timeout, and then cancels."""
        ...

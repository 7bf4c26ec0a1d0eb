"""The interface that endpoints use: the status of the served models, and replies to requests."""

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
    """The states of a served model; see `mlx_host._host.lifecycle` for the transitions."""

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

    `capabilities` and `enforces_tool_schemas` are None until the model has been loaded once. `parsers` are the names of
    the parsers of reasoning ("reasoning") and of calls ("tools"), if there are any. `writes_calls` is whether the
    parser of calls has a notation in which tools can be described. `concurrency` is the lower of the configured limit
    and the model's; 0 while neither is known. `error` is the last failure, and `retry_at` the time of the next attempt
    to load, in seconds since the epoch, if there will be one. `batch_sizes` counts decode steps by the number of
    requests that produced output.
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
    parsers: Mapping[str, str] = field(default_factory=dict)
    writes_calls: bool = False
    batch_sizes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """The statistics of a finished request. Durations are in seconds, relative to its arrival.

    `outcome` is the finish reason ("stop", "length", "tool_calls"), "cancelled", or an error's code or type; `error` is
    the error's message. `started_at` is the time of its arrival in seconds since the epoch; `queued` is the time until
    the model was available and had a free slot; `first_token` is the time to first token (TTFT), which includes
    `queued`, None if there was no output. `gaps` are the inter-token latencies (ITL). `first_output_tokens` is the
    number of tokens in the first output. `audio_seconds` is the length of the audio, if it was an input. `warning`
    reports unparsed markup, repaired calls and calls to unknown functions; `has_unparsed_markup` and `repaired_calls`
    count the first two.
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
    first_output_tokens: int = 1
    audio_seconds: float | None = None
    error: str | None = None
    has_unparsed_markup: bool = False
    repaired_calls: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Decode throughput after the first output; None if there was only one output, or if they came at once."""
        tokens, seconds = self.completion_tokens - self.first_output_tokens, sum(self.gaps)
        return tokens / seconds if tokens > 0 and seconds > 0 else None

    @property
    def time_to_first_token_after_queue(self) -> float | None:
        """The time from the end of queueing to the first token; None if there was no output."""
        return max(0.0, self.first_token - self.queued) if self.first_token is not None else None

    @property
    def real_time_factor(self) -> float | None:
        """The processing time divided by the length of the audio; None without audio."""
        return max(0.0, self.duration - self.queued) / self.audio_seconds if self.audio_seconds else None


@dataclass(frozen=True, slots=True)
class Caller:
    """The client that submitted a request; `LOCAL` on servers without API keys."""

    name: str


LOCAL = Caller("local")


class Deadline(Enum):
    """The scope of a model's queue timeout: the whole response, the time to the first output, or none."""

    COMPLETE = "complete"
    FIRST_OUTPUT = "first_output"
    NONE = "none"

    @classmethod
    def of(cls, *, stream: bool) -> Deadline:
        """Return the deadline for an HTTP request: a stream that has started does not time out."""
        return cls.FIRST_OUTPUT if stream else cls.COMPLETE


class Reply(Protocol[EventT_co]):
    """The output of one submitted request: an async context manager and an iterator over batches of events.

    Entering waits until the model is loaded and has a free slot. A request is rejected with a RequestError on entering
    or with the first batch. Leaving releases the slot, and cancels the request if it is unfinished. `model` is the
    resolved model, and `request` is the request after all `prepare_request` hooks: use it instead of the submitted one.
    Token counts are those so far. `progress` is that of queueing, loading or prefill; None once there is output.
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
        """Seconds without output after which a stream sends a keep-alive comment; 0 disables it."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Sequence[EventT_co]: ...


class Service(Protocol):
    """The operations that endpoints can call.

    The host implements them; `mlx_host.testing.FakeService` is a test double.
    """

    @property
    def stopping(self) -> bool:
        """Whether the server is draining and accepts no new requests."""
        ...

    def models(self, caller: Caller = LOCAL) -> Sequence[ModelStatus]:
        """Return the status of every model that the caller may use, in configuration order."""
        ...

    def model(self, name: str, caller: Caller = LOCAL) -> ModelStatus:
        """Return the status of the model that `name` resolves to; raises ModelNotFoundError."""
        ...

    def submit(
        self, request: Request, *, caller: Caller = LOCAL, deadline: Deadline = Deadline.COMPLETE
    ) -> Reply[Event]:
        """Submit a request; the reply yields the model's events. Raises RequestError if it is rejected at once."""
        ...

    def chat(
        self, request: ChatRequest, *, caller: Caller = LOCAL, deadline: Deadline = Deadline.COMPLETE
    ) -> Reply[ChatEvent]:
        """Submit a chat request; the reply yields content, reasoning and tool calls, as parsed from the text."""
        ...

    async def count_tokens(self, request: ChatRequest, *, caller: Caller = LOCAL) -> int:
        """Count the prompt tokens of a chat request, exactly as `chat` would submit it."""
        ...

    def cancel(self, request_id: str, error: RequestError) -> bool:
        """End a running or queued request with an error; False if no request has this id."""
        ...

    async def load(self, name: str) -> ModelStatus:
        """Load a configured model and wait until it is ready; LoadError if it cannot be loaded.

        A failed model is retried at once.
        """
        ...

    async def unload(self, name: str, *, force: bool = False) -> None:
        """Unload a model when its running requests have finished; `force` ends them with an error."""
        ...

    def changes(self) -> AsyncIterator[ModelStatus]:
        """Iterate over the statuses of models as their states change."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start background work; shutting down waits for it within the shutdown timeout, then cancels it."""
        ...

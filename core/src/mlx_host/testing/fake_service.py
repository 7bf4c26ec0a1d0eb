"""A test double of the service, for unit tests of an API's endpoints: its replies follow a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from mlx_host._host.output_processor import OutputProcessor
from mlx_host._host.parser_selection import ParserSelection
from mlx_host._host.unparsed_markup import MarkupSignatures
from mlx_host.api import LOCAL, Caller, ChatEvent, Deadline, ModelState, ModelStatus
from mlx_host.errors import ModelNotFoundError, RequestError
from mlx_host.events import Event, Finished, Progress, Started, TextDelta
from mlx_host.parsing import Parser
from mlx_host.requests import ChatRequest, Request

EventT = TypeVar("EventT")
FAKE_MODEL = ModelStatus(name="fake", state=ModelState.READY, backend="fake", concurrency=1)

ScriptItem = Event | Sequence[Event] | Exception | asyncio.Event
"""A step of a script: yield an event or a batch of events, raise an error, or wait for an asyncio.Event."""


@dataclass
class FakeReply(Generic[EventT]):
    """A reply that follows a script; see `mlx_host.api.Reply`.

    `caller` and `deadline` are the arguments of `submit` or `chat`. `closed` is whether the reply has been left, and
    `completed` whether the script had reached its end before.
    """

    request: Request
    model: ModelStatus
    script: Sequence[ScriptItem]
    caller: Caller = LOCAL
    deadline: Deadline = Deadline.COMPLETE
    rejection: RequestError | None = None
    processor: OutputProcessor | None = None
    warning: str | None = None
    keep_alive: float = 0.0
    progress: Progress | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    entered: bool = False
    closed: bool = False
    completed: bool = False

    def __post_init__(self) -> None:
        self._remaining = iter(self.script)
        self._error: asyncio.Future[None] | None = None

    def cancel(self, error: RequestError) -> bool:
        """End the reply with an error; False if it is not entered or already closed."""
        if self._error is None or self._error.done() or self.closed:
            return False
        self._error.set_exception(error)
        return True

    async def __aenter__(self) -> Self:
        if self.rejection is not None:
            raise self.rejection
        self.entered = True
        self._error = asyncio.get_running_loop().create_future()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closed = True
        if self._error is not None:
            self._error.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[EventT]:
        for item in self._remaining:
            if isinstance(item, asyncio.Event):
                await self._wait(item)
                continue
            if isinstance(item, Exception):
                raise item
            batch = [item] if isinstance(item, Event) else list(item)
            self._count(batch)
            events: list[Any] = batch if self.processor is None else self.processor.process(batch)
            if events:
                return events
        self.completed = True
        raise StopAsyncIteration

    async def _wait(self, event: asyncio.Event) -> None:
        assert self._error is not None
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((waiting, self._error), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._error.done():
            self._error.result()

    def _count(self, batch: Sequence[Event]) -> None:
        for event in batch:
            match event:
                case Started():
                    self.prompt_tokens, self.cached_tokens = event.prompt_tokens, event.cached_tokens
                case TextDelta():
                    self.completion_tokens += event.token_count
                case Finished():
                    self.completion_tokens = max(self.completion_tokens, event.completion_tokens)
                case Progress():
                    self.progress = event


class FakeService:
    """Implements `mlx_host.api.Service` without models.

        service = FakeService([Started(prompt_tokens=2), TextDelta("Hi"), Finished()])

    Every reply follows the same script of a model's events; see ScriptItem. Replies of `chat` convert them to chat
    events with `parser`, or without a parser if it is None. If `rejection` is set, entering a reply raises it.
    `replies` are all replies so far, with their requests.
    """

    def __init__(
        self,
        script: Sequence[ScriptItem] = (),
        *,
        models: Sequence[ModelStatus] = (FAKE_MODEL,),
        rejection: RequestError | None = None,
        parser: type[Parser] | None = None,
        warning: str | None = None,
        keep_alive: float = 0.0,
        token_count: int = 0,
    ) -> None:
        self.stopping = False
        self.replies: list[FakeReply[Any]] = []
        self._script = script
        self._models = {model.name: model for model in models}
        self._rejection = rejection
        self._parsers = ParserSelection(parser, parser)
        self._warning = warning
        self._keep_alive = keep_alive
        self._token_count = token_count
        self._changes: list[asyncio.Queue[ModelStatus]] = []

    def models(self, caller: Caller = LOCAL) -> Sequence[ModelStatus]:
        return list(self._models.values())

    def model(self, name: str, caller: Caller = LOCAL) -> ModelStatus:
        if name in self._models:
            return self._models[name]
        if len(self._models) == 1:
            return next(iter(self._models.values()))
        available = ", ".join(sorted(self._models)) or "none"
        raise ModelNotFoundError(f"Model {name!r} not found. Available models: {available}.", param="model")

    def submit(
        self, request: Request, *, caller: Caller = LOCAL, deadline: Deadline = Deadline.COMPLETE
    ) -> FakeReply[Event]:
        return self._reply(request, caller, deadline, None)

    def chat(
        self, request: ChatRequest, *, caller: Caller = LOCAL, deadline: Deadline = Deadline.COMPLETE
    ) -> FakeReply[ChatEvent]:
        parsers = [parser for parser in (self._parsers.tools,) if parser is not None]
        processor = OutputProcessor(request, self._parsers, MarkupSignatures(parsers, None))
        return self._reply(request, caller, deadline, processor)

    def _reply(
        self, request: Request, caller: Caller, deadline: Deadline, processor: OutputProcessor | None
    ) -> FakeReply[Any]:
        reply: FakeReply[Any] = FakeReply(
            request,
            self.model(request.model, caller),
            self._script,
            caller,
            deadline,
            self._rejection,
            processor,
            self._warning,
            self._keep_alive,
        )
        self.replies.append(reply)
        return reply

    async def count_tokens(self, request: ChatRequest, *, caller: Caller = LOCAL) -> int:
        self.model(request.model, caller)
        return self._token_count

    def cancel(self, request_id: str, error: RequestError) -> bool:
        return any(reply.cancel(error) for reply in self.replies if reply.request.id == request_id)

    async def load(self, name: str) -> ModelStatus:
        return self._change(name, ModelState.READY)

    async def unload(self, name: str, *, force: bool = False) -> None:
        self._change(name, ModelState.UNLOADED)

    def _change(self, name: str, state: ModelState) -> ModelStatus:
        model = self.model(name)
        status = self._models[model.name] = replace(model, state=state)
        for queue in self._changes:
            queue.put_nowait(status)
        return status

    async def changes(self) -> AsyncIterator[ModelStatus]:
        queue: asyncio.Queue[ModelStatus] = asyncio.Queue()
        self._changes.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._changes.remove(queue)

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(work, name=name)

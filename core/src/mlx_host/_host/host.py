"""The host: implements `mlx_host.api.Service` with the served models and the plugins' hooks."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from mlx_host._host import request_log
from mlx_host._host.model_pool import ModelPool
from mlx_host._host.reply import ChatReply, ModelReply
from mlx_host._host.served_model import ServedModel
from mlx_host._plugins.manager import Plugins
from mlx_host.api import LOCAL, Caller, Deadline, ModelStatus
from mlx_host.errors import RequestError, UnsupportedRequestError
from mlx_host.events import TokenCount, Tokenized
from mlx_host.requests import ChatRequest, ExplainRequest, Request, TokenizeRequest

RequestT = TypeVar("RequestT", bound=Request)


class Host:
    """The service that endpoints use; see `mlx_host.api.Service`. `keep_alive` is in seconds."""

    def __init__(self, plugins: Plugins, pool: ModelPool, keep_alive: float) -> None:
        self.stopping = False
        self._plugins = plugins
        self._pool = pool
        self._keep_alive = keep_alive
        self._background: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start loading every model."""
        self._pool.start()

    async def wait_started(self, *, strict: bool = False) -> None:
        """Wait until every model is ready or has failed; LoadError if the server cannot start, see `ModelPool`."""
        await self._pool.wait_started(strict=strict)

    @property
    def background_tasks(self) -> int:
        return len(self._background)

    async def drain(self) -> None:
        """Wait for background work."""
        if self._background:
            await asyncio.wait(self._background)

    async def stop(self, timeout: float) -> None:
        """Cancel background work and stop every model's process, killing it after `timeout` seconds."""
        for task in self._background:
            task.cancel()
        await self._pool.stop(timeout)

    def models(self, caller: Caller = LOCAL) -> Sequence[ModelStatus]:
        return [model.status() for model in self._pool]

    def model(self, name: str, caller: Caller = LOCAL) -> ModelStatus:
        return self._resolve(name).status()

    def submit(self, request: Request, *, caller: Caller = LOCAL, deadline: Deadline = Deadline.COMPLETE) -> ModelReply:
        model = self._resolve(request.model)
        return self._reply(model, self._prepare(self._without_disabled_tools(request, model), model), deadline)

    def chat(
        self, request: ChatRequest, *, caller: Caller = LOCAL, deadline: Deadline = Deadline.COMPLETE
    ) -> ChatReply:
        model = self._pool.resolve(request.model)
        prepared = self._prepare(self._without_disabled_tools(request, model), model)
        # Stop strings apply to the content, which the model's process cannot tell from reasoning and calls.
        return ChatReply(self._reply(model, replace(prepared, stop=()), deadline), prepared)

    async def count_tokens(self, request: ChatRequest, *, caller: Caller = LOCAL) -> int:
        count = 0
        tokenize = TokenizeRequest(id=request.id, model=request.model, prompt=request, count_only=True)
        async with self.submit(tokenize, caller=caller) as reply:
            async for events in reply:
                for event in events:
                    if isinstance(event, TokenCount | Tokenized):
                        count = event.count if isinstance(event, TokenCount) else len(event.tokens)
        return count

    def cancel(self, request_id: str, error: RequestError) -> bool:
        return any(model.cancel_with_error(request_id, error) for model in self._pool)

    async def load(self, name: str) -> ModelStatus:
        model = self._pool.resolve(name)
        await model.load()
        return model.status()

    async def unload(self, name: str, *, force: bool = False) -> None:
        await self._pool.resolve(name).unload(force=force)

    def changes(self) -> AsyncIterator[ModelStatus]:
        return self._pool.changes()

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        context = contextvars.copy_context()
        context.run(request_log.enter_background)
        task = asyncio.create_task(work, name=name, context=context)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _resolve(self, name: str) -> ServedModel:
        """Return the model that `name` resolves to, and add it to the log."""
        entry = request_log.current()
        if entry is not None:
            entry.model = name
        model = self._pool.resolve(name)
        if entry is not None:
            entry.model = model.name
        return model

    def _prepare(self, request: RequestT, model: ServedModel) -> RequestT:
        """Run the `prepare_request` hooks on a request, or on the chat request within another one."""
        if isinstance(request, TokenizeRequest | ExplainRequest) and isinstance(request.prompt, ChatRequest):
            return replace(request, prompt=self._prepare(request.prompt, model))
        prepared: RequestT = self._plugins.hook.prepare_request(request=request, model=model.status())
        return prepared

    def _without_disabled_tools(self, request: RequestT, model: ServedModel) -> RequestT:
        """Remove the tools if tool_choice is auto and the model's settings disable automatic tool choice."""
        if isinstance(request, TokenizeRequest | ExplainRequest) and isinstance(request.prompt, ChatRequest):
            return replace(request, prompt=self._without_disabled_tools(request.prompt, model))
        if not isinstance(request, ChatRequest) or request.tool_choice != "auto" or model.parsers.auto_tools:
            return request
        return replace(request, tools=(), allowed_tools=None)

    def _reply(self, model: ServedModel, request: Request, deadline: Deadline) -> ModelReply:
        if not model.supports(request):
            assert model.capabilities is not None
            tasks = ", ".join(sorted(kind.task for kind in model.capabilities.supported_requests))
            raise UnsupportedRequestError(
                f"Model {model.name!r} does not support {request.task} requests (supported: {tasks}). "
                f"{self._alternatives(request)}",
                param="model",
            )
        return ModelReply(model, request, deadline, self._keep_alive, self._plugins.request_finished)

    def _alternatives(self, request: Request) -> str:
        names = [model.name for model in self._pool if model.capabilities is not None and model.supports(request)]
        if names:
            return f"Models that support them: {', '.join(sorted(names))}."
        backends = [
            name for name, each in self._plugins.backends.found.items() if isinstance(request, each.supported_requests)
        ]
        if backends:
            return f"Backends that support them: {', '.join(sorted(backends))}."
        return "No installed backend supports them; `mlx-host plugins` lists the backends."

"""One served model: its requests, its queue, and the supervisor of its process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from mlx_host._engine import Engine, RequestHandle
from mlx_host._engine.ipc import Loading
from mlx_host._engine.worker import Worker
from mlx_host._host.catalog import DEFAULT_LIMITS, ModelLimits
from mlx_host._host.constraints import enforces_tool_schemas, streams_arguments, with_constraint
from mlx_host._host.history import with_parsed_history
from mlx_host._host.lifecycle import STARTING, Lifecycle
from mlx_host._host.parser_selection import NO_PARSERS, ParserSelection, resolve_auto_parser
from mlx_host._host.request_queue import RequestQueue, clamp_retry_after
from mlx_host._host.supervisor import DEFAULT_POLICY, RestartPolicy, Supervisor
from mlx_host._host.unparsed_markup import MarkupSignatures
from mlx_host.api import ModelState, ModelStatus
from mlx_host.backend import Capabilities
from mlx_host.errors import EngineDeadError, LoadError, ModelUnavailableError, RequestError
from mlx_host.events import Progress
from mlx_host.parsing import Parser
from mlx_host.requests import ChatRequest, Request

log = logging.getLogger(__name__)

# How often a request without output is retried after the model's process exited.
MAX_RETRIES = 1
# Seconds in which a model's process must exit after a shutdown message.
CLOSE_TIMEOUT = 5.0


class ServedModel:
    """A model, loaded or not; see `mlx_host._host.lifecycle` for its states.

    `start_worker` starts a process that loads the model; it is called for each load and each restart. `--parser auto`
    selects from `available_parsers` when the model's chat template is known.
    """

    def __init__(
        self,
        name: str,
        start_worker: Callable[[], Worker],
        limits: ModelLimits = DEFAULT_LIMITS,
        parsers: ParserSelection = NO_PARSERS,
        available_parsers: Iterable[type[Parser]] = (),
        *,
        backend: str = "",
        policy: RestartPolicy = DEFAULT_POLICY,
        on_progress: Callable[[Loading], None] = lambda progress: None,
    ) -> None:
        self.name = name
        self.backend = backend
        self.limits = limits
        self.parsers = parsers
        self.markup_signatures = MarkupSignatures((), None)
        self.capabilities: Capabilities | None = None
        self.queue = RequestQueue(limits.queue_size)
        self.lifecycle = Lifecycle()
        # The progress of loading, while the model is being loaded.
        self.load_progress: Progress | None = None
        self._selected_parsers = parsers
        self._available_parsers = list(available_parsers)
        self._created = int(time.time())
        self._on_progress = on_progress
        # Admitted requests that wait for the process to be restarted.
        self._retries: list[RequestHandle] = []
        self._unloading: asyncio.Task[None] | None = None
        self._supervisor = Supervisor(
            name,
            self.lifecycle,
            start_worker,
            self,
            policy=policy,
            stall_timeout=limits.stall_timeout,
            on_progress=self._set_load_progress,
        )
        self.lifecycle.subscribe(self._enforce_state)

    # Status

    @property
    def state(self) -> ModelState:
        return self.lifecycle.state

    def status(self) -> ModelStatus:
        """Return the current status."""
        engine = self._supervisor.engine
        error = self.lifecycle.error
        return ModelStatus(
            name=self.name,
            state=self.state,
            backend=self.backend,
            capabilities=self.capabilities,
            concurrency=self._concurrency(),
            running=self.queue.running,
            waiting=self.queue.waiting,
            queue_size=self.limits.queue_size,
            restarts=self._supervisor.restarts,
            error=None if error is None else str(error),
            retry_at=self.lifecycle.retry_at,
            pid=engine.worker.pid if engine is not None and engine.alive else None,
            created=self._created,
            enforces_tool_schemas=None
            if self.capabilities is None
            else enforces_tool_schemas(self.capabilities, self.parsers),
            batch_sizes=dict(self._supervisor.batch_sizes),
            parsers=self.parsers.names(),
            writes_calls=self.parsers.writes_calls,
        )

    def supports(self, request: Request) -> bool:
        """Whether the model supports this type of request; True while that is unknown, before the first load."""
        return self.capabilities is None or isinstance(request, self.capabilities.supported_requests)

    def _concurrency(self) -> int:
        """Return the lower of the configured limit and the loaded model's; 0 while neither is known."""
        supported = None if self.capabilities is None else self.capabilities.concurrency
        return min((limit for limit in (self.limits.max_concurrency, supported) if limit is not None), default=0)

    def _set_load_progress(self, loading: Loading) -> None:
        self.load_progress = Progress(loading.stage, loading.done, loading.total or None)
        self._on_progress(loading)

    # Loading

    def start(self) -> None:
        """Start to load the model if it is unloaded or failed."""
        if self.state in (ModelState.UNLOADED, ModelState.FAILED):
            self._supervisor.start()

    async def wait_loaded(self) -> None:
        """Wait until the model is ready; LoadError if it fails, or is unloaded before that."""
        await self.lifecycle.wait_while(*STARTING)
        if self.state is ModelState.READY:
            return
        if self.lifecycle.error is not None:
            raise LoadError(f"Model {self.name!r} failed to load: {self.lifecycle.error}")
        raise LoadError(f"Model {self.name!r} was not loaded; its state is {self.state.value!r}.")

    async def load(self) -> None:
        """Load the model if necessary, and wait until it is ready; raises LoadError."""
        await self.lifecycle.wait_while(ModelState.DRAINING)
        self.start()
        await self.wait_loaded()

    async def unload(self, *, force: bool = False, timeout: float = CLOSE_TIMEOUT) -> None:
        """Stop the process when the running requests have finished; `force` ends them with an error."""
        if self.state in (ModelState.UNLOADED, ModelState.STOPPED):
            return
        if self.state is not ModelState.DRAINING:
            self.lifecycle.enter(ModelState.DRAINING)
            self._unloading = asyncio.create_task(self._drain(timeout), name=f"unload {self.name}")
        if force:
            self._fail(self._running())
        assert self._unloading is not None
        # Shielded: unloading continues even if the caller is cancelled.
        await asyncio.shield(self._unloading)

    async def _drain(self, timeout: float) -> None:
        await self.queue.wait_idle()
        await self._supervisor.stop(timeout)
        if self.state is ModelState.DRAINING:
            self.lifecycle.enter(ModelState.UNLOADED)

    async def stop(self, timeout: float) -> None:
        """Shut down: end all requests with an error and stop the process, killing it after `timeout` seconds."""
        if self.state is not ModelState.STOPPED:
            self.lifecycle.enter(ModelState.STOPPED)
        await self._supervisor.stop(timeout)
        if self._unloading is not None:
            await asyncio.shield(self._unloading)

    # Called by the supervisor

    def on_ready(self, engine: Engine, capabilities: Capabilities) -> None:
        """Admit the queued requests, and resubmit those of the previous process."""
        parsers = resolve_auto_parser(
            self._selected_parsers, capabilities.chat_template, self._available_parsers, self.name
        )
        self.parsers = parsers
        self.markup_signatures = MarkupSignatures(self._available_parsers, capabilities.chat_template)
        self.capabilities = replace(
            capabilities, tools=parsers.tools is not None, reasoning=parsers.reasoning is not None
        )
        self.load_progress = None
        retries, self._retries = self._retries, []
        for handle in retries:
            engine.submit(handle)
        self.queue.slots = self._concurrency()

    def on_exit(self, engine: Engine, reason: str) -> None:
        """Fail the requests that have had output, and keep the others for the next process, up to MAX_RETRIES times."""
        self.queue.slots = 0
        for handle in engine.handles:
            handle.crash_count += 1
            if handle.started or handle.crash_count > MAX_RETRIES:
                message = f"The process of model {self.name!r} exited while running the request ({reason})."
                handle.push(EngineDeadError(message))
            else:
                self._retries.append(handle)
        if self.state is ModelState.DRAINING:
            self._fail(self._retries)

    # Requests

    def check_available(self) -> None:
        """Raise ModelUnavailableError unless the model runs requests or is about to."""
        if self.state is not ModelState.READY and self.state not in STARTING:
            raise self._unavailable()

    def submit(self, handle: RequestHandle) -> None:
        """Run an admitted request in the current process, or in the next one if it has exited."""
        self.check_available()
        assert self.capabilities is not None  # The queue admits no request before the model is loaded.
        request = with_parsed_history(handle.request, self.parsers)
        handle.request = with_constraint(request, self.name, self.capabilities, self.parsers)
        engine = self._supervisor.engine
        if engine is not None and engine.alive and self.state is ModelState.READY:
            engine.submit(handle)
        else:
            self._retries.append(handle)

    def streams_arguments(self, request: ChatRequest) -> bool:
        """Whether the arguments of the tool calls of an admitted request are streamed."""
        return self.capabilities is not None and streams_arguments(request, self.capabilities, self.parsers)

    def cancel(self, handle: RequestHandle) -> None:
        """Cancel an admitted request, unless it has finished."""
        if handle in self._retries:
            self._retries.remove(handle)
        elif self._supervisor.engine is not None:
            self._supervisor.engine.cancel(handle)

    def cancel_with_error(self, request_id: str, error: RequestError) -> bool:
        """End a running or queued request with an error; False if no request has this id."""
        for handle in self._running():
            if handle.request.id == request_id:
                self.cancel(handle)
                handle.push(error)
                return True
        return self.queue.reject(request_id, error)

    def _running(self) -> list[RequestHandle]:
        engine = self._supervisor.engine
        return [*self._retries, *(engine.handles if engine is not None else ())]

    def _fail(self, handles: Iterable[RequestHandle]) -> None:
        for handle in list(handles):
            self.cancel(handle)
            handle.push(self._unavailable())

    def _enforce_state(self) -> None:
        """End the requests that are not allowed in the new state."""
        if self.state is ModelState.DRAINING:
            self.queue.slots = 0
            self.queue.reject_all(self._unavailable)
            self._fail(self._retries)
        elif self.state in (ModelState.FAILED, ModelState.STOPPED):
            self.load_progress = None
            self.queue.slots = 0
            self.queue.reject_all(self._unavailable)
            self._fail(self._running())

    def _unavailable(self) -> ModelUnavailableError:
        """Return the error for requests in the current state; `retryable` if the model will be loaded again."""
        match self.state:
            case ModelState.FAILED:
                message = f"Model {self.name!r} failed: {self.lifecycle.error}"
                retry_at = self.lifecycle.retry_at
                if retry_at is None:
                    return ModelUnavailableError(message, retryable=False)
                return ModelUnavailableError(message, retry_after=clamp_retry_after(retry_at - time.time()))
            case ModelState.STOPPED:
                return ModelUnavailableError(f"Model {self.name!r} is being shut down.")
            case ModelState.DRAINING:
                return ModelUnavailableError(f"Model {self.name!r} is being unloaded.", retryable=False)
        return ModelUnavailableError(f"Model {self.name!r} is not loaded.", retryable=False)

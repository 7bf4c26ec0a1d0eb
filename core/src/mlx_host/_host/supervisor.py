"""Supervises the process of one model: loads it, restarts it after crashes, and retries failed loads.

The states and transitions are those of `mlx_host._host.lifecycle`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mlx_host._engine import Engine, WorkerExitedError
from mlx_host._engine.ipc import Loading
from mlx_host._engine.worker import Worker
from mlx_host._host.lifecycle import Lifecycle
from mlx_host.api import ModelState
from mlx_host.backend import Capabilities
from mlx_host.errors import LoadError, MlxHostError

log = logging.getLogger(__name__)

# The states in which a supervisor runs.
ACTIVE = frozenset({ModelState.LOADING, ModelState.READY, ModelState.RESTARTING, ModelState.FAILED})


@dataclass(frozen=True)
class RestartPolicy:
    """The backoff of restarts and retries; all times are in seconds.

    After a crash the model is restarted with exponential backoff from `restart_delay`. After `max_crashes` within
    `crash_window` it is FAILED, and loading is retried with backoff from `retry_delay` to `max_retry_delay`.
    """

    max_crashes: int = 3
    crash_window: float = 60.0
    restart_delay: float = 0.5
    retry_delay: float = 5.0
    max_retry_delay: float = 300.0

    def restart_after(self, crashes: int) -> float:
        """Return the delay before a restart, by the number of crashes within the window."""
        return self.restart_delay * 2.0 ** (crashes - 1)

    def retry_after(self, failures: int) -> float:
        """Return the delay before loading is retried, by the number of consecutive failures."""
        return min(self.retry_delay * 2.0 ** min(failures - 1, 64), self.max_retry_delay)


DEFAULT_POLICY = RestartPolicy()


@dataclass(frozen=True)
class WorkerExit:
    """The error with which a worker ended, and whether starting it again may help."""

    error: MlxHostError
    transient: bool


class SupervisorListener(Protocol):
    """Receives the notifications of a supervisor; implemented by the served model."""

    def on_ready(self, engine: Engine, capabilities: Capabilities) -> None:
        """The model is loaded."""

    def on_exit(self, engine: Engine, reason: str) -> None:
        """The process of a loaded model has exited; its requests are still in `engine.handles`."""


class Supervisor:
    """Runs one model from `start` until `stop`; it can be started again.

    The supervisor makes the transitions between LOADING, READY, RESTARTING and FAILED; the served model makes all
    others, and enters DRAINING or STOPPED before it calls `stop`. `engine` is the current or the last one.
    """

    def __init__(
        self,
        name: str,
        lifecycle: Lifecycle,
        start_worker: Callable[[], Worker],
        listener: SupervisorListener,
        *,
        policy: RestartPolicy,
        stall_timeout: float,
        on_progress: Callable[[Loading], None],
    ) -> None:
        self.engine: Engine | None = None
        self.restarts = 0
        self.batch_sizes: Counter[int] = Counter()
        self._name = name
        self._lifecycle = lifecycle
        self._start_worker = start_worker
        self._listener = listener
        self._policy = policy
        self._stall_timeout = stall_timeout
        self._on_progress = on_progress
        self._crashes: deque[float] = deque(maxlen=policy.max_crashes)
        self._failures = 0
        self._has_loaded = False
        self._ready_at = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Load an unloaded model, or retry a failed one at once; crashes and failures are counted from zero again."""
        self._crashes.clear()
        self._failures = 0
        self._lifecycle.enter(ModelState.LOADING)
        if self._task is None:
            self._has_loaded = False
            self._wake.clear()
            self._task = asyncio.create_task(self._run(), name=f"model {self._name}")
        else:
            self._wake.set()

    async def stop(self, timeout: float) -> None:
        """Stop the process, killing it after `timeout` seconds, and do not start it again."""
        self._wake.set()
        if self.engine is not None and self.engine.alive:
            await self.engine.stop(timeout)
        if self._task is not None:
            await asyncio.shield(self._task)
            self._task = None

    @property
    def _active(self) -> bool:
        return self._lifecycle.state in ACTIVE

    async def _run(self) -> None:
        while self._active:
            ended = await self._run_worker()
            if not self._active:
                return
            await self._sleep(self._handle_exit(ended))
            if self._lifecycle.state is ModelState.FAILED:
                self._lifecycle.enter(ModelState.LOADING)

    async def _run_worker(self) -> WorkerExit:
        """Start a worker and wait until it has exited."""
        engine = None
        try:
            engine = self.engine = Engine(self._start_worker(), self._on_progress, self.batch_sizes)
            capabilities = await engine.ready()
            if self._active:
                self._listener.on_ready(engine, capabilities)
                self._ready_at = asyncio.get_running_loop().time()
                self._lifecycle.enter(ModelState.READY)
                if self._has_loaded:
                    log.info("model %s: Ready again.", self._name)
                self._has_loaded = True
            reason = await self._watch(engine)
            self._listener.on_exit(engine, reason)
        except OSError as error:
            return WorkerExit(LoadError(f"Its process could not be started: {error}"), transient=True)
        except MlxHostError as error:
            if engine is not None:
                await engine.kill()
            return WorkerExit(error, isinstance(error, WorkerExitedError) or self._has_loaded)
        except Exception as error:
            # For example from a plugin's parser; requests would otherwise wait for the model forever.
            log.exception("model %s: unexpected error", self._name)
            if engine is not None:
                await engine.kill()
            return WorkerExit(LoadError(f"Unexpected error: {type(error).__name__}: {error}"), transient=False)
        return WorkerExit(WorkerExitedError(f"The model's process exited ({reason})."), transient=True)

    async def _watch(self, engine: Engine) -> str:
        """Wait until the process has exited, and kill it if it stalls; return the reason for its exit."""
        limit = remaining = self._stall_timeout or None
        while not (await asyncio.wait({engine.exited}, timeout=remaining))[0]:
            assert limit is not None
            now = asyncio.get_running_loop().time()
            remaining = engine.last_progress_at + limit - now if engine.busy else limit
            if remaining <= 0:
                stacks = await engine.dump_stacks()
                log.error(
                    "model %s: no progress for %g s with %d running requests; killing its process. Stack traces:\n%s",
                    self._name,
                    limit,
                    len(engine.handles),
                    stacks or "(none: the process did not respond)",
                )
                await engine.kill()
                return f"stalled for {limit:g} s"
        return engine.exited.result()

    def _handle_exit(self, ended: WorkerExit) -> float | None:
        """Enter RESTARTING or FAILED; return the delay until the next start in seconds, None to wait for `start`."""
        error, policy = ended.error, self._policy
        self._reset_failures_after_uptime()
        self._crashes.append(asyncio.get_running_loop().time())
        crashes = len(self._recent_crashes())
        was_running = self._lifecycle.state is not ModelState.LOADING
        if ended.transient and was_running and crashes < policy.max_crashes:
            delay = policy.restart_after(crashes)
            self.restarts += 1
            log.warning("model %s: %s Restarting in %.1f s.", self._name, error, delay)
            self._lifecycle.enter(ModelState.RESTARTING, error)
            return delay
        if was_running and ended.transient:
            error = LoadError(f"The model's process exited {crashes} times within {policy.crash_window:g} s. {error}")
        self._failures += 1
        if not ended.transient:
            log.error("model %s: failed: %s Not retrying.", self._name, _sentence(error))
            self._lifecycle.enter(ModelState.FAILED, error)
            return None
        delay = policy.retry_after(self._failures)
        log.error("model %s: failed: %s Retrying in %.1f s.", self._name, _sentence(error), delay)
        self._lifecycle.enter(ModelState.FAILED, error, time.time() + delay)
        return delay

    def _recent_crashes(self) -> list[float]:
        now = asyncio.get_running_loop().time()
        return [crash for crash in self._crashes if now - crash < self._policy.crash_window]

    def _reset_failures_after_uptime(self) -> None:
        """Reset the backoff if the model has been ready for at least `crash_window`."""
        ready_for = asyncio.get_running_loop().time() - self._ready_at
        if self._lifecycle.state is ModelState.READY and ready_for >= self._policy.crash_window:
            self._failures = 0

    async def _sleep(self, delay: float | None) -> None:
        """Wait for the delay; `start` and `stop` end it early."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), delay)
        self._wake.clear()


def _sentence(error: MlxHostError) -> str:
    text = str(error)
    return text if text.endswith((".", "!", "?")) else f"{text}."

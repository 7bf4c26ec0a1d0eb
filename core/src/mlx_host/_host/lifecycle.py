"""The lifecycle of a served model: its states and the transitions between them.

    state       requests                    next state
    UNLOADED    rejected                    LOADING by `load`
    LOADING     wait                        READY; FAILED if loading fails
    READY       run                         RESTARTING if the process exits; FAILED if it did so too often
    RESTARTING  wait                        READY; RESTARTING if the process exits again; FAILED if it did so too often
    FAILED      rejected with the error     LOADING at `retry_at` or by `load`
    DRAINING    running ones finish,        UNLOADED when they have finished and the process has exited
                others are rejected
    STOPPED     rejected                    none: the server is shutting down

`unload` takes every loaded or failed model through DRAINING, and shutting down takes a model from any state to STOPPED.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from mlx_host.api import ModelState
from mlx_host.errors import MlxHostError

TRANSITIONS: Mapping[ModelState, frozenset[ModelState]] = {
    ModelState.UNLOADED: frozenset({ModelState.LOADING}),
    ModelState.LOADING: frozenset({ModelState.READY, ModelState.FAILED, ModelState.DRAINING}),
    ModelState.READY: frozenset({ModelState.RESTARTING, ModelState.FAILED, ModelState.DRAINING}),
    ModelState.RESTARTING: frozenset({ModelState.READY, ModelState.RESTARTING, ModelState.FAILED, ModelState.DRAINING}),
    ModelState.FAILED: frozenset({ModelState.LOADING, ModelState.DRAINING}),
    ModelState.DRAINING: frozenset({ModelState.UNLOADED}),
    ModelState.STOPPED: frozenset(),
}
# The states in which requests wait for the model to become ready.
STARTING = frozenset({ModelState.LOADING, ModelState.RESTARTING})


class LifecycleError(Exception):
    """A transition that is not in TRANSITIONS: a bug in the caller."""


class Lifecycle:
    """The state of one model.

    `error` is the last failure, until the model is ready again. `retry_at` is the time of the next attempt to load it,
    in seconds since the epoch, while it is FAILED and will be retried.
    """

    def __init__(self) -> None:
        self.state = ModelState.UNLOADED
        self.error: MlxHostError | None = None
        self.retry_at: float | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._listeners: list[Callable[[], None]] = []

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Register a function that is called after each transition."""
        self._listeners.append(listener)

    def enter(self, state: ModelState, error: MlxHostError | None = None, retry_at: float | None = None) -> None:
        """Make a transition; LifecycleError if it is not in TRANSITIONS."""
        if state not in TRANSITIONS[self.state] and not self._stops(state):
            raise LifecycleError(f"Invalid transition from {self.state.value} to {state.value}.")
        self.state = state
        # The last error remains visible until the model is ready or unloaded.
        if error is not None or state in (ModelState.READY, ModelState.UNLOADED):
            self.error = error
        self.retry_at = retry_at
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        for listener in self._listeners:
            listener()

    def _stops(self, state: ModelState) -> bool:
        return state is ModelState.STOPPED is not self.state

    async def wait_while(self, *states: ModelState) -> None:
        """Wait until the model is in another state than these."""
        while self.state in states:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

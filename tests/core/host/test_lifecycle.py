from __future__ import annotations

import asyncio
import itertools

import pytest
from mlx_host._host.lifecycle import TRANSITIONS, Lifecycle, LifecycleError
from mlx_host.api import ModelState
from mlx_host.errors import LoadError

U, L, R, D = ModelState.UNLOADED, ModelState.LOADING, ModelState.READY, ModelState.DRAINING
X, F, S = ModelState.RESTARTING, ModelState.FAILED, ModelState.STOPPED
ALLOWED = {(U, L), (L, R), (L, F), (R, X), (R, F), (X, R), (X, X), (X, F), (F, L), (D, U)}
ALLOWED |= {(state, D) for state in (L, R, X, F)} | {(state, S) for state in ModelState if state is not S}


@pytest.mark.parametrize(("state", "following"), list(itertools.product(ModelState, ModelState)))
def test_only_the_transitions_of_the_table_are_possible(state: ModelState, following: ModelState) -> None:
    lifecycle = Lifecycle()
    lifecycle.state = state
    if (state, following) in ALLOWED:
        lifecycle.enter(following)
        assert lifecycle.state is following
    else:
        with pytest.raises(LifecycleError, match=f"from {state.value} to {following.value}"):
            lifecycle.enter(following)
        assert lifecycle.state is state


def test_table_has_every_state() -> None:
    assert set(TRANSITIONS) == set(ModelState)


def test_error_is_kept_until_the_model_is_ready_again() -> None:
    lifecycle = Lifecycle()
    seen: list[tuple[ModelState, str | None, float | None]] = []

    def note() -> None:
        error = None if lifecycle.error is None else str(lifecycle.error)
        seen.append((lifecycle.state, error, lifecycle.retry_at))

    lifecycle.subscribe(note)
    lifecycle.enter(L)
    lifecycle.enter(F, LoadError("no memory"), 5.0)
    lifecycle.enter(L)
    lifecycle.enter(R)
    assert seen == [(L, None, None), (F, "no memory", 5.0), (L, "no memory", None), (R, None, None)]


def test_waiters_are_notified_of_the_state() -> None:
    async def main() -> None:
        lifecycle = Lifecycle()
        await lifecycle.wait_while(L)
        lifecycle.enter(L)
        waiters = [asyncio.create_task(lifecycle.wait_while(L, X)) for _ in range(2)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        lifecycle.enter(R)
        await waiters[1]

    asyncio.run(main())

"""The pool: models are added and removed at runtime, and one that fails to load does not affect the others."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlx_host._engine import WorkerConfig
from mlx_host._engine.worker import ProcessWorker
from mlx_host._host import Catalog, ModelPool, ModelSpec, ServedModel
from mlx_host._host.catalog import DEFAULT_LIMITS
from mlx_host._host.parser_selection import NO_PARSERS
from mlx_host._host.supervisor import RestartPolicy
from mlx_host.api import ModelState
from mlx_host.errors import LoadError, ModelUnavailableError, UsageError

from tests.core.host.workers import NEVER, Workers, served, text, until


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


@dataclass(frozen=True)
class Trial:
    """A model whose loads fail with these errors, in this order."""

    name: str
    workers: Workers = field(default_factory=Workers)


def spec(name: str) -> ModelSpec:
    return ModelSpec(name, "trial", None, {}, {}, NO_PARSERS, DEFAULT_LIMITS)


def pool_of(*trials: Trial) -> ModelPool:
    workers = {trial.name: trial.workers for trial in trials}

    def create(spec: ModelSpec) -> ServedModel:
        return served(workers.get(spec.name) or Workers(), NEVER, spec.name)

    return ModelPool(create, Catalog(spec(trial.name) for trial in trials))


def good(name: str) -> Trial:
    return Trial(name)


def bad(name: str) -> Trial:
    return Trial(name, Workers(LoadError("bad path")))


def crashing(name: str) -> Trial:
    return Trial(name, Workers("crash"))


@pytest.mark.parametrize("failing", [bad, crashing])
def test_model_that_fails_to_load_does_not_affect_the_others(failing: Callable[[str], Trial]) -> None:
    async def test() -> None:
        pool = pool_of(good("a"), failing("b"), good("c"))
        pool.start()
        await pool.wait_started()
        assert [model.state.value for model in pool] == ["ready", "failed", "ready"]
        await pool.stop(60)

    run(test)


@pytest.mark.parametrize("failing", [bad, crashing])
def test_failure_of_the_only_model_or_of_one_in_strict_mode_is_raised(failing: Callable[[str], Trial]) -> None:
    async def test() -> None:
        for trials, strict in (([failing("b")], False), ([good("a"), failing("b")], True)):
            pool = pool_of(*trials)
            pool.start()
            with pytest.raises(LoadError, match="'b'"):
                await pool.wait_started(strict=strict)
            await pool.stop(60)

    run(test)


def test_failure_of_all_models_is_raised_and_names_them() -> None:
    async def test() -> None:
        pool = pool_of(bad("a"), crashing("b"))
        pool.start()
        with pytest.raises(LoadError) as caught:
            await pool.wait_started()
        assert all(fact in str(caught.value) for fact in ("'a'", "bad path", "'b'", "exited"))
        await pool.stop(60)

    run(test)


def test_models_can_be_added_and_removed() -> None:
    async def test() -> None:
        pool = pool_of(good("a"))
        pool.start()
        await pool.wait_started()
        changes = pool.changes()
        added = pool.add(spec("b"))
        with pytest.raises(UsageError, match="'b'"):
            pool.add(spec("b"))
        with pytest.raises(ModelUnavailableError, match="'b'"):
            await text(added)
        await added.load()
        assert await text(added) == "xxx"
        stream = asyncio.create_task(text(added, "stream", None))
        await until(lambda: added.queue.running)
        removing = asyncio.create_task(pool.remove("b"))
        await until(lambda: added.state is ModelState.DRAINING)
        assert pool.resolve("b").name == "a", "a single model is found by any name"
        assert [model.name for model in pool] == ["a"]
        # Closing the pool also stops models that are being removed.
        await pool.stop(60)
        with pytest.raises(ModelUnavailableError, match="shut down"):
            await stream
        await removing
        seen = [(change.name, change.state.value) async for change in changes]
        assert seen[:3] == [("b", "loading"), ("b", "ready"), ("b", "draining")]
        assert sorted(seen[3:]) == [("a", "stopped"), ("b", "stopped")]

    run(test)


def test_changes_are_snapshots_from_the_moment_of_the_call() -> None:
    async def test() -> None:
        pool = pool_of(bad("a"))
        changes = pool.changes()
        model = pool.resolve("a")
        waiting = asyncio.create_task(anext(changes))
        model.start()
        first = await waiting
        assert (first.state, first.error) == (ModelState.LOADING, None)
        second = await anext(changes)
        assert (second.state, second.error, second.retry_at) == (ModelState.FAILED, "bad path", None)
        later = pool.changes()
        await model.load()
        assert [(await anext(later)).state for _ in range(2)] == [ModelState.LOADING, ModelState.READY]
        await pool.stop(60)

    run(test)


# With real processes


def in_process(policy: RestartPolicy = NEVER, **options: Any) -> ServedModel:
    config = WorkerConfig("scripted", None, options, "info")
    return ServedModel("scripted", lambda: ProcessWorker(config, {}), policy=policy)


def test_unloading_while_loading_kills_the_process(tmp_path: Path) -> None:
    async def test() -> None:
        model = in_process(load_until=str(tmp_path / "gate"))
        loading = asyncio.create_task(model.load())
        waiting = asyncio.create_task(text(model))
        await until(lambda: model.status().pid is not None and model.load_progress is not None)
        assert str(model.load_progress) == "load 0/1"
        await model.unload()
        assert (model.state, model.status().pid) == (ModelState.UNLOADED, None)
        with pytest.raises(LoadError):
            await loading
        with pytest.raises(ModelUnavailableError):
            await waiting
        (tmp_path / "gate").touch()
        await model.load()
        await model.stop(60)
        assert model.status().pid is None

    run(test)


def test_process_that_is_killed_while_loading_is_restarted(tmp_path: Path) -> None:
    async def test() -> None:
        model = in_process(load_until=str(tmp_path / "gate"))
        loading = asyncio.create_task(model.load())
        await until(lambda: model.load_progress is not None)
        first = model.status().pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        with pytest.raises(LoadError, match="SIGKILL"):
            await loading
        assert model.status().retry_at is not None
        (tmp_path / "gate").touch()
        await model.load()
        assert model.status().pid not in (None, first)
        await model.unload()
        assert model.status().pid is None
        await model.stop(60)

    run(test)

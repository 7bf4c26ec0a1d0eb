"""A served model: crashes, failed loads, retries, and unloading while requests run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import pytest
from mlx_host._engine.ipc import Loading
from mlx_host._engine.worker import Worker
from mlx_host._host import ServedModel
from mlx_host._host.request_queue import MAX_RETRY_AFTER
from mlx_host._host.supervisor import RestartPolicy
from mlx_host.api import ModelState
from mlx_host.errors import EngineDeadError, LoadError, ModelUnavailableError, UsageError

from tests.core.host.workers import (
    AT_ONCE,
    NEVER,
    RESTARTS_ONLY,
    Workers,
    in_state,
    reply,
    running,
    served,
    text,
    until,
)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def test_delays_grow_to_their_limit() -> None:
    policy = RestartPolicy(restart_delay=0.5, retry_delay=5.0, max_retry_delay=300.0)
    assert [policy.restart_after(crashes) for crashes in (1, 2)] == [0.5, 1.0]
    assert [policy.retry_after(failures) for failures in range(1, 9)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert policy.retry_after(10_000) == 300


def more_than(things: Sequence[object], count: int) -> bool:
    return len(things) > count


# Loading


def no_worker() -> Worker:
    raise ZeroDivisionError("no worker")


def test_unexpected_error_fails_the_model_and_its_waiting_requests() -> None:
    async def test() -> None:
        model = ServedModel("m", no_worker)
        model.start()
        waiting = asyncio.create_task(text(model))
        with pytest.raises(LoadError, match=r"'m'.*ZeroDivisionError: no worker"):
            await model.wait_loaded()
        with pytest.raises(ModelUnavailableError, match="ZeroDivisionError") as caught:
            await waiting
        assert not caught.value.retryable
        assert model.status().retry_at is None
        await model.stop(1)

    run(test)


@pytest.mark.parametrize("error", [LoadError("bad path"), UsageError("no such backend")])
def test_failed_load_is_not_retried_automatically(error: LoadError | UsageError) -> None:
    async def test() -> None:
        workers = Workers(error)
        model = served(workers, AT_ONCE)
        with pytest.raises(LoadError, match=str(error)):
            await model.load()
        assert (model.state, model.status().error, model.status().retry_at) == (ModelState.FAILED, str(error), None)
        with pytest.raises(ModelUnavailableError, match=str(error)) as caught:
            await text(model)
        assert (caught.value.retryable, caught.value.retry_after) == (False, None)
        assert len(workers.started) == 1
        await model.load()
        assert (model.state, model.status().error) == (ModelState.READY, None)
        assert await text(model) == "xxx"
        await model.stop(60)

    run(test)


def test_crash_while_loading_fails_the_load_and_is_retried() -> None:
    async def test() -> None:
        model = served(Workers("crash", "crash"), AT_ONCE)
        with pytest.raises(LoadError):
            await model.load()
        await in_state(model, ModelState.READY)
        assert await text(model) == "xxx"
        await model.stop(60)

    run(test)


def test_requests_to_a_failed_model_are_rejected_with_the_time_of_the_next_attempt() -> None:
    async def test() -> None:
        workers = Workers("crash")
        model = served(workers, RestartPolicy(retry_delay=1000.0, max_retry_delay=300.0))
        before = time.time()
        with pytest.raises(LoadError):
            await model.load()
        retry_at = model.status().retry_at
        assert retry_at is not None
        assert before + 300 <= retry_at <= time.time() + 300
        with pytest.raises(ModelUnavailableError) as caught:
            await text(model)
        assert (caught.value.retryable, caught.value.retry_after) == (True, MAX_RETRY_AFTER)
        # An explicit load does not wait for that time.
        await model.load()
        assert await text(model) == "xxx"
        await model.stop(60)

    run(test)


def test_loading_a_loaded_model_does_nothing_and_several_callers_share_a_load() -> None:
    async def test() -> None:
        workers = Workers()
        model = served(workers)
        await asyncio.gather(*(model.load() for _ in range(5)))
        await model.load()
        assert len(workers.started) == 1
        await model.stop(60)

    run(test)


def test_stopped_model_cannot_be_loaded() -> None:
    async def test() -> None:
        workers = Workers()
        model = served(workers)
        async with running(model):
            pass
        with pytest.raises(LoadError, match="stopped"):
            await model.load()
        model.start()
        assert len(workers.started) == 1
        assert workers.alive == 0

    run(test)


# Crashes


def test_model_is_restarted_and_its_waiting_requests_are_kept() -> None:
    async def test() -> None:
        workers = Workers()
        async with running(served(workers, AT_ONCE)) as model:
            streams = [asyncio.create_task(text(model, f"stream {n}", None)) for n in range(2)]
            await until(lambda: len(model.status().batch_sizes))
            waiting = [asyncio.create_task(text(model, f"waiting {n}")) for n in range(3)]
            await until(lambda: model.queue.waiting == 3)
            workers.crash()
            assert await asyncio.gather(*waiting) == ["xxx"] * 3
            for stream in streams:
                with pytest.raises(EngineDeadError):
                    await stream
            assert (model.status().restarts, model.queue.running, model.status().error) == (1, 0, None)

    run(test)


def test_model_that_crashes_too_often_fails_and_is_retried_with_growing_delays() -> None:
    async def test() -> None:
        workers = Workers()
        seen: list[tuple[str, bool]] = []
        model = served(workers, AT_ONCE)
        model.lifecycle.subscribe(lambda: seen.append((model.state.value, model.lifecycle.retry_at is not None)))
        async with running(model):
            for crash in range(1, 4):
                workers.crash()
                await workers.wait_for(crash + 1)
                await in_state(model, ModelState.READY)
        ready = ("ready", False)
        restarted = [("restarting", False), ready]
        assert seen[:-1] == [("loading", False), ready, *restarted * 2, ("failed", True), ("loading", False), ready]

    run(test)


def test_failed_model_reports_the_error_and_fails_waiting_requests() -> None:
    async def test() -> None:
        workers = Workers(None, None, None, "crash")
        async with running(served(workers, RESTARTS_ONLY)) as model:
            for crash in (1, 2):
                workers.crash()
                await workers.wait_for(crash + 1)
                await in_state(model, ModelState.READY)
            stream = asyncio.create_task(text(model, "stream", None))
            await until(lambda: model.status().batch_sizes)
            workers.crash()
            with pytest.raises(EngineDeadError):
                await stream
            await in_state(model, ModelState.FAILED)
            status = model.status()
            assert "3 times" in (status.error or "")
            assert status.retry_at is not None
            with pytest.raises(LoadError):
                await model.load()
            await model.load()
            assert await text(model) == "xxx"

    run(test)


def test_requests_that_wait_for_a_restart_fail_with_the_model() -> None:
    async def test() -> None:
        workers = Workers(None, "crash", "crash")
        async with running(served(workers, RESTARTS_ONLY)) as model:
            streams = [asyncio.create_task(text(model, f"stream {n}", None)) for n in range(2)]
            await until(lambda: model.status().batch_sizes.get(2))
            waiting = asyncio.create_task(text(model, "waiting"))
            await until(lambda: model.queue.waiting)
            workers.crash()
            with pytest.raises(ModelUnavailableError, match="3 times"):
                await waiting
            for stream in streams:
                with pytest.raises(EngineDeadError):
                    await stream
            assert model.state is ModelState.FAILED
            assert (model.queue.running, model.queue.waiting) == (0, 0)

    run(test)


# Unloading


def test_unloading_lets_running_requests_finish_and_rejects_the_others() -> None:
    async def test() -> None:
        workers = Workers()
        async with running(served(workers)) as model:
            streams = [asyncio.create_task(text(model, f"stream {n}", None)) for n in range(2)]
            await until(lambda: model.status().batch_sizes.get(2))
            waiting = asyncio.create_task(text(model, "waiting"))
            await until(lambda: model.queue.waiting)
            unloading = asyncio.create_task(model.unload())
            with pytest.raises(ModelUnavailableError, match="unloaded"):
                await waiting
            with pytest.raises(ModelUnavailableError, match="unloaded"):
                await text(model, "late")
            assert (model.state, model.queue.running) == (ModelState.DRAINING, 2)
            # Unloading continues although the caller was cancelled.
            unloading.cancel()
            loading = asyncio.create_task(model.load())
            workers.released.set()
            assert {"".join(set(output)) for output in await asyncio.gather(*streams)} == {"x"}
            await loading
            assert (model.state, len(workers.started), workers.alive) == (ModelState.READY, 2, 1)
            await model.unload()
            assert (model.state, workers.alive) == (ModelState.UNLOADED, 0)
            assert model.status().capabilities is not None
            with pytest.raises(ModelUnavailableError, match="not loaded"):
                await text(model)
            await model.unload()

    run(test)


def test_forced_unloading_ends_running_requests() -> None:
    async def test() -> None:
        workers = Workers()
        async with running(served(workers)) as model:
            streams = [asyncio.create_task(text(model, f"stream {n}", None)) for n in range(2)]
            await until(lambda: model.status().batch_sizes)
            drained = asyncio.create_task(model.unload())
            await until(lambda: model.state is ModelState.DRAINING)
            await model.unload(force=True)
            await drained
            for stream in streams:
                with pytest.raises(ModelUnavailableError, match="unloaded"):
                    await stream
            assert (model.state, model.queue.running, workers.alive) == (ModelState.UNLOADED, 0, 0)

    run(test)


def test_crash_while_unloading_ends_it() -> None:
    async def test() -> None:
        workers = Workers()
        async with running(served(workers)) as model:
            stream = asyncio.create_task(text(model, "stream", None))
            await until(lambda: model.status().batch_sizes)
            unloading = asyncio.create_task(model.unload())
            await until(lambda: model.state is ModelState.DRAINING)
            workers.crash()
            await unloading
            with pytest.raises(EngineDeadError):
                await stream
            assert (model.state, model.queue.running, len(workers.started)) == (ModelState.UNLOADED, 0, 1)

    run(test)


@pytest.mark.parametrize("state", [ModelState.RESTARTING, ModelState.FAILED])
def test_unloading_ends_the_restart_attempts(state: ModelState) -> None:
    async def test() -> None:
        workers = Workers(*([None] if state is ModelState.RESTARTING else ["crash"]))
        model = served(workers, NEVER)
        model.start()
        await model.lifecycle.wait_while(ModelState.LOADING)
        waiting = None
        if state is ModelState.RESTARTING:
            workers.crash()
            await in_state(model, state)
            waiting = asyncio.create_task(text(model))
            await until(lambda: model.queue.waiting)
        assert model.state is state
        await model.unload()
        assert (model.state, model.status().error) == (ModelState.UNLOADED, None)
        if waiting is not None:
            with pytest.raises(ModelUnavailableError):
                await waiting
        await model.load()
        assert await text(model) == "xxx"
        await model.stop(60)

    run(test)


def test_loading_and_unloading_under_load_leaks_no_slot_and_no_worker() -> None:
    async def test() -> None:
        workers = Workers()
        async with running(served(workers)) as model:
            finished: list[str] = []
            stopped = False

            async def client(number: int) -> None:
                while not stopped:
                    try:
                        finished.append(await text(model, f"client {number}", 20))
                    except ModelUnavailableError:
                        await model.load()

            clients = [asyncio.create_task(client(number)) for number in range(6)]
            for turn in range(20):
                await until(partial(more_than, finished, len(finished) + 3))
                await model.unload(force=turn % 2 == 1)
                assert workers.alive <= 1
            stopped = True
            await asyncio.gather(*clients)
            assert set(finished) == {"x" * 20}
            await model.unload()
            assert (model.queue.running, model.queue.waiting, workers.alive) == (0, 0, 0)

    run(test)


def test_waiting_and_running_requests_can_be_ended() -> None:
    async def test() -> None:
        workers = Workers()
        async with running(served(workers)) as model:
            streams = [asyncio.create_task(text(model, f"stream {n}", None)) for n in range(2)]
            await until(lambda: model.status().batch_sizes)
            waiting = asyncio.create_task(text(model, "waiting"))
            await until(lambda: model.queue.waiting)
            assert model.cancel_with_error("waiting", ModelUnavailableError("cancelled"))
            assert model.cancel_with_error("stream 0", ModelUnavailableError("cancelled"))
            assert not model.cancel_with_error("unknown", ModelUnavailableError("cancelled"))
            for ended in (waiting, streams[0]):
                with pytest.raises(ModelUnavailableError, match="cancelled"):
                    await ended
            workers.released.set()
            assert set(await streams[1]) == {"x"}

    run(test)


def test_snapshot_does_not_change() -> None:
    async def test() -> None:
        async with running(served(Workers())) as model:
            before = model.status()
            await text(model)
            assert before.batch_sizes == {}
            assert model.status().batch_sizes == {1: 5}

    run(test)


def test_progress_of_a_waiting_reply_is_that_of_loading() -> None:
    async def test() -> None:
        model = served(Workers())
        waiting = reply(model)
        model.start()
        assert str(waiting.progress) == "queued"
        model._set_load_progress(Loading("download", 1, 4))
        assert str(waiting.progress) == "download 1/4"
        await model.wait_loaded()
        assert str(waiting.progress) == "queued"
        await model.stop(60)

    run(test)

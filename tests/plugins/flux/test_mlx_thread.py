"""MlxThread runs work on one thread, in lockstep with the consumer of its events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from mlx_host_flux.mlx_thread import GenerationCancelled, MlxThread

Emit = Callable[[int], None]


@pytest.fixture
def thread() -> Iterator[MlxThread]:
    thread = MlxThread()
    yield thread
    thread.close()


def test_all_work_runs_on_the_same_thread(thread: MlxThread) -> None:
    first = thread.run(threading.get_ident)
    assert first != threading.get_ident()

    def work(emit: Emit) -> int:
        emit(threading.get_ident())
        return threading.get_ident()

    assert [*thread.stream(work), thread.run(threading.get_ident)] == [first, first]


def test_work_and_consumer_alternate(thread: MlxThread) -> None:
    order: list[str] = []

    def work(emit: Emit) -> None:
        for number in range(3):
            order.append(f"emit {number}")
            emit(number)

    order += [order.pop() + f", receive {number}" for number in thread.stream(work)]
    assert order == ["emit 0, receive 0", "emit 1, receive 1", "emit 2, receive 2"]


def test_stream_returns_the_result_of_the_work(thread: MlxThread) -> None:
    results: list[str] = []

    def consume() -> Iterator[int]:
        results.append((yield from thread.stream(work)))

    def work(emit: Emit) -> str:
        emit(1)
        return "done"

    assert list(consume()) == [1]
    assert results == ["done"]


def test_stream_raises_the_error_of_the_work(thread: MlxThread) -> None:
    def work(emit: Emit) -> None:
        emit(1)
        raise ZeroDivisionError

    stream = thread.stream(work)
    assert next(stream) == 1
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert thread.run(lambda: 2) == 2


def test_closing_the_stream_cancels_the_suspended_work(thread: MlxThread) -> None:
    log: list[str] = []

    def work(emit: Emit) -> None:
        try:
            try:
                emit(1)
            except Exception:  # noqa: BLE001  like a library that continues after errors
                log.append("caught by except Exception")
            emit(2)
        except GenerationCancelled:
            log.append("cancelled")
            raise
        finally:
            log.append("ended")

    stream = thread.stream(work)
    assert next(stream) == 1
    stream.close()
    assert log == ["cancelled", "ended"]
    assert thread.run(lambda: 2) == 2


def test_closing_an_unstarted_stream_does_not_run_the_work(thread: MlxThread) -> None:
    def work(emit: Emit) -> None:
        pytest.fail("the work must not run")

    thread.stream(work).close()
    assert thread.run(lambda: 2) == 2

"""Work on a thread of its own, in step with the one that asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from mlx_host_flux.workbench import Abandoned, Workbench

Say = Callable[[int], None]


@pytest.fixture
def workbench() -> Iterator[Workbench]:
    bench = Workbench()
    yield bench
    bench.close()


def test_all_work_is_done_on_one_thread(workbench: Workbench) -> None:
    first = workbench.do(threading.get_ident)
    assert first != threading.get_ident()

    def work(say: Say) -> int:
        say(threading.get_ident())
        return threading.get_ident()

    assert [*workbench.steps(work), workbench.do(threading.get_ident)] == [first, first]


def test_one_thread_runs_at_a_time(workbench: Workbench) -> None:
    order: list[str] = []

    def work(say: Say) -> None:
        for number in range(3):
            order.append(f"work {number}")
            say(number)

    order += [order.pop() + f", take {number}" for number in workbench.steps(work)]
    assert order == ["work 0, take 0", "work 1, take 1", "work 2, take 2"]


def test_the_result_is_returned(workbench: Workbench) -> None:
    results: list[str] = []

    def ask() -> Iterator[int]:
        results.append((yield from workbench.steps(work)))

    def work(say: Say) -> str:
        say(1)
        return "done"

    assert list(ask()) == [1]
    assert results == ["done"]


def test_a_failure_is_raised_where_the_work_is_asked_for(workbench: Workbench) -> None:
    def work(say: Say) -> None:
        say(1)
        raise ZeroDivisionError

    steps = workbench.steps(work)
    assert next(steps) == 1
    with pytest.raises(ZeroDivisionError):
        next(steps)
    assert workbench.do(lambda: 2) == 2


def test_closing_stops_the_work_where_it_waits(workbench: Workbench) -> None:
    reached: list[str] = []

    def work(say: Say) -> None:
        try:
            try:
                say(1)
            except Exception:  # noqa: BLE001  as a library does that goes on after errors
                reached.append("caught")
            say(2)
        except Abandoned:
            reached.append("stopped")
            raise
        finally:
            reached.append("left")

    steps = workbench.steps(work)
    assert next(steps) == 1
    steps.close()
    assert reached == ["stopped", "left"]
    assert workbench.do(lambda: 2) == 2


def test_what_was_never_begun_is_not_done(workbench: Workbench) -> None:
    def work(say: Say) -> None:
        pytest.fail("nobody asked for it")

    workbench.steps(work).close()
    assert workbench.do(lambda: 2) == 2

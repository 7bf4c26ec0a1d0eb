"""BackgroundRunner runs blocking work on threads while a generator yields."""

from __future__ import annotations

import threading

import pytest
from mlx_host_media.background import BackgroundRunner

from tests.support.media import finish


def test_the_generator_yields_until_the_work_ends() -> None:
    may_end = threading.Event()

    def work() -> int:
        assert may_end.wait(30)
        return 7

    steps = BackgroundRunner(lambda: 0.0, max_threads=1).run(work)
    assert [next(steps), next(steps)] == [None, None]
    may_end.set()
    assert finish(steps) == 7


def test_errors_of_the_work_are_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        finish(BackgroundRunner(lambda: 0.01, max_threads=1).run(lambda: 1 // 0))


def test_queued_work_is_cancelled_when_its_generator_is_closed() -> None:
    may_end, started = threading.Event(), threading.Event()
    runner = BackgroundRunner(lambda: 0.0, max_threads=2)
    busy = [runner.run(lambda: may_end.wait(30)) for _ in range(2)]
    for steps in busy:
        next(steps)
    queued = runner.run(started.set)
    next(queued)
    queued.close()
    may_end.set()
    for steps in busy:
        assert finish(steps)
    assert not started.is_set()

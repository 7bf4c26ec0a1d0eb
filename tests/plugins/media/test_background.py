"""Blocking work runs on threads while a generator yields."""

from __future__ import annotations

import threading

import pytest
from mlx_host_media.background import BackgroundRunner

from tests.support.media import finish


def test_it_yields_until_the_work_is_done() -> None:
    may_end = threading.Event()

    def work() -> int:
        assert may_end.wait(30)
        return 7

    steps = BackgroundRunner(lambda: 0.0, max_threads=1).run(work)
    assert [next(steps), next(steps)] == [None, None]
    may_end.set()
    assert finish(steps) == 7


def test_it_raises_what_the_work_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        finish(BackgroundRunner(lambda: 0.01, max_threads=1).run(lambda: 1 // 0))


def test_work_that_is_not_awaited_any_more_is_not_begun() -> None:
    may_end, begun = threading.Event(), threading.Event()
    runner = BackgroundRunner(lambda: 0.0, max_threads=2)
    busy = [runner.run(lambda: may_end.wait(30)) for _ in range(2)]
    for steps in busy:
        next(steps)
    late = runner.run(begun.set)
    next(late)
    late.close()
    may_end.set()
    for steps in busy:
        assert finish(steps)
    assert not begun.is_set()

"""Runs what waits or takes long beside the model's own thread: downloads and decoders, which use no MLX."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


class Aside:
    """Threads for pieces of work, each awaited by a generator; `patience` says how long it may wait in one turn.

    So many as `at_once` work; they end with their work, or with the process, which does not wait for them.
    """

    def __init__(self, patience: Callable[[], float], *, at_once: int) -> None:
        self._patience = patience
        self._slots = threading.BoundedSemaphore(at_once)

    def run(self, work: Callable[[], T]) -> Generator[None, None, T]:
        """Do the work, giving way meanwhile; raises what it raises. What nobody awaits any more is not begun."""
        future: Future[T] = Future()
        threading.Thread(target=self._do, args=(work, future), name="media", daemon=True).start()
        try:
            while not wait([future], self._patience()).done:
                yield
            return future.result()
        finally:
            future.cancel()

    def _do(self, work: Callable[[], T], future: Future[T]) -> None:
        with self._slots:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  it is raised where the result is awaited
                future.set_exception(error)

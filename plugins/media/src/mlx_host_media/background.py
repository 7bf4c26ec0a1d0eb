"""Runs blocking work on threads while a generator yields."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


class BackgroundRunner:
    """Runs functions on up to `max_threads` daemon threads, each awaited by a generator.

    `patience` returns how long a generator may block before it yields, in seconds.
    """

    def __init__(self, patience: Callable[[], float], *, max_threads: int) -> None:
        self._patience = patience
        self._slots = threading.BoundedSemaphore(max_threads)

    def run(self, work: Callable[[], T]) -> Generator[None, None, T]:
        """Return the result of `work` or raise its error, yielding None until it ends.

        Closing the generator cancels `work` if it has not started.
        """
        future: Future[T] = Future()
        threading.Thread(target=self._run, args=(work, future), name="media", daemon=True).start()
        try:
            while not wait([future], self._patience()).done:
                yield
            return future.result()
        finally:
            future.cancel()

    def _run(self, work: Callable[[], T], future: Future[T]) -> None:
        with self._slots:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  raised by future.result()
                future.set_exception(error)

"""Runs slow functions on separate threads, while the model's thread continues with other requests."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Seconds that the model's thread waits before it continues with other requests; most functions need less.
FIRST_WAIT = 0.005
# A second thread, so that short prompts do not wait for a long one.
THREADS = 2


def result_of(future: Future[T]) -> Generator[None, None, T]:
    """Yield until a future is done and return its result; cancel it if the generator is closed."""
    try:
        wait([future], timeout=FIRST_WAIT)
        while not future.done():
            yield
    finally:
        future.cancel()
    return future.result()


class BackgroundThreads:
    """Threads for rendering and tokenizing prompts; the functions must not use MLX."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix=name)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Generator[None, None, T]:
        """Run a function on one of the threads, and yield until it has returned."""
        return (yield from result_of(self._executor.submit(function, *args, **kwargs)))

    def close(self) -> None:
        """Let running functions finish, without waiting for them."""
        self._executor.shutdown(wait=False, cancel_futures=True)

"""The thread that all work with MLX is done on, hand in hand with the one that asks for it.

mflux makes a picture in one call, and MLX's arrays and streams belong to the thread that made them. So that whoever
asks can stop a picture between two steps, the call runs on a thread of its own and waits at each step to be told to go
on: of the two threads one runs at a time, like a generator and who advances it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Generic, TypeVar

E = TypeVar("E")
T = TypeVar("T")


class Abandoned(BaseException):
    """Nobody wants the rest; it passes by `except Exception`, as a closed generator's GeneratorExit does."""


class _Handover(Generic[E]):
    """Where one thread leaves what it says and waits, and the other takes it."""

    def __init__(self) -> None:
        self._said: SimpleQueue[E | None] = SimpleQueue()
        self._wanted: SimpleQueue[bool] = SimpleQueue()

    def give(self, event: E) -> None:
        self._said.put(event)
        if not self._wanted.get():
            raise Abandoned

    def end(self, _: Future[T]) -> None:
        self._said.put(None)

    def take(self) -> E | None:
        return self._said.get()

    def go_on(self, wanted: bool) -> None:
        self._wanted.put(wanted)


class Workbench:
    """Does one thing at a time, on a thread that stays the same."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mflux")

    def do(self, work: Callable[[], T]) -> T:
        """Wait for the result of some work, or raise what it raises."""
        return self._thread.submit(work).result()

    def steps(self, work: Callable[[Callable[[E], None]], T]) -> Generator[E, None, T]:
        """Yield what some work says, which waits meanwhile, and return its result.

        Closing the generator raises Abandoned in the work, where it waits, and returns once it has left.
        """
        handover: _Handover[E] = _Handover()
        result = self._thread.submit(work, handover.give)
        result.add_done_callback(handover.end)
        try:
            while (event := handover.take()) is not None:
                yield event
                handover.go_on(True)
            return result.result()
        finally:
            handover.go_on(False)
            # Not `result`, which would raise Abandoned here.
            result.exception()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

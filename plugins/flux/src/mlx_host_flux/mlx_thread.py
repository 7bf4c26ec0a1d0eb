"""The thread that does all MLX work, and a generator interface to a call that runs on it.

mflux generates an image in one blocking call, and MLX arrays and streams belong to the thread that created them. To be
able to cancel between two denoising steps, that call runs on its own thread and blocks in a callback after each step
until the consumer asks for the next event. Only one of the two threads runs at a time:

    consumer thread              MLX thread
    ---------------              ----------
    next()   ----- submit ---->  work(emit) starts
    receive() blocks             emit(event)
             <---- event ------  emit() blocks
    yield event
    next()   ----- resume ---->  emit() returns, work continues
    receive() blocks             work returns or raises
             <---- None -------  done callback
    return or raise its outcome

States of one `MlxThread.stream`:

    state      event                 next state  side effect
    ---------  --------------------  ----------  -----------------------------------------------------------
    created    next()                working     the work is submitted to the MLX thread
    created    close()               closed      none: the work never starts
    working    emit(event)           suspended   the consumer receives the event, the MLX thread blocks
    working    work returns, raises  closed      the consumer's next() returns the result or raises the error
    suspended  next()                working     the MLX thread continues
    suspended  close()               cancelling  emit() raises GenerationCancelled on the MLX thread
    cancelling work returns, raises  closed      close() returns
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Generic, TypeVar

E = TypeVar("E")
T = TypeVar("T")


class GenerationCancelled(BaseException):
    """Raised in the work when its consumer closes the stream.

    Like GeneratorExit and asyncio.CancelledError it derives from BaseException, so `except Exception` in a library does
    not catch it.
    """


class _Rendezvous(Generic[E]):
    """Passes events from the MLX thread to the consumer, blocking the MLX thread after each of them."""

    def __init__(self) -> None:
        self._events: SimpleQueue[E | None] = SimpleQueue()
        self._resume: SimpleQueue[bool] = SimpleQueue()

    def emit(self, event: E) -> None:
        """Send an event and wait for `resume`; called on the MLX thread. Raises GenerationCancelled."""
        self._events.put(event)
        if not self._resume.get():
            raise GenerationCancelled

    def end(self, _: Future[T]) -> None:
        """Signal that there are no more events."""
        self._events.put(None)

    def receive(self) -> E | None:
        """Wait for the next event; None after the last one."""
        return self._events.get()

    def resume(self, *, cancel: bool = False) -> None:
        """Let `emit` return, or with `cancel` raise GenerationCancelled."""
        self._resume.put(not cancel)


class MlxThread:
    """Runs functions one at a time, always on the same thread."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mflux")

    def run(self, function: Callable[[], T]) -> T:
        """Call a function on the thread; returns its result or raises its error."""
        return self._executor.submit(function).result()

    def stream(self, work: Callable[[Callable[[E], None]], T]) -> Generator[E, None, T]:
        """Call `work(emit)` on the thread, yield each emitted event and return the result.

        The work is blocked in `emit` while the consumer handles an event. Closing the generator raises
        GenerationCancelled from that call and returns when the work has ended.
        """
        rendezvous: _Rendezvous[E] = _Rendezvous()
        future = self._executor.submit(work, rendezvous.emit)
        future.add_done_callback(rendezvous.end)
        try:
            while (event := rendezvous.receive()) is not None:
                yield event
                rendezvous.resume()
            return future.result()
        finally:
            rendezvous.resume(cancel=True)
            # Wait with `exception`: `result` would raise GenerationCancelled here.
            future.exception()

    def close(self) -> None:
        """Wait for the running function and end the thread."""
        self._executor.shutdown()

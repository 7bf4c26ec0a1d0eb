"""The queue of one model: bounded, ordered by priority, first come first served within a priority."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from mlx_host.errors import QueueFullError, RequestError
from mlx_host.requests import Priority

# SDKs honour a Retry-After of up to two minutes, and do not retry at all after a longer one. In seconds.
MAX_RETRY_AFTER = 120.0
MIN_RETRY_AFTER = 1.0
# The weight of the latest request in the exponential moving average of durations.
EMA_WEIGHT = 0.2
# The heap is rebuilt when it contains more cancelled entries than waiting ones plus this number.
MAX_CANCELLED = 16


def clamp_retry_after(seconds: float) -> float:
    """Limit a Retry-After to what SDKs accept."""
    return min(max(MIN_RETRY_AFTER, seconds), MAX_RETRY_AFTER)


@dataclass(order=True, slots=True)
class QueueEntry:
    """A queued request; `slot` is done when it is admitted, rejected or cancelled."""

    priority: Priority
    number: int
    request_id: str = field(compare=False)
    slot: asyncio.Future[None] = field(compare=False)


class RequestQueue:
    """The slots of one model, and the requests that wait for one.

    `slots` is 0, so that every request waits, while the model is not loaded.
    """

    def __init__(self, max_waiting: int, slots: int = 0) -> None:
        self.max_waiting = max_waiting
        self.running = 0
        self._slots = slots
        # Cancelled entries remain in the heap until they are popped; `_waiting` contains only waiting ones.
        self._heap: list[QueueEntry] = []
        self._waiting: dict[int, QueueEntry] = {}
        self._numbers = itertools.count()
        self._mean_seconds = 1.0
        self._idle_waiters: list[asyncio.Future[None]] = []

    @property
    def slots(self) -> int:
        return self._slots

    @slots.setter
    def slots(self, slots: int) -> None:
        self._slots = slots
        self._admit()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def acquire(self, request_id: str, priority: Priority) -> None:
        """Wait for a slot, to be returned with `release`; QueueFullError if the queue is full."""
        if self.running < self._slots and not self._waiting:
            self.running += 1
            return
        if len(self._waiting) >= self.max_waiting:
            raise QueueFullError("Too many requests. Service is at capacity.", retry_after=self._retry_after())
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = QueueEntry(priority, next(self._numbers), request_id, slot)
        self._waiting[entry.number] = entry
        heapq.heappush(self._heap, entry)
        try:
            await slot
        except asyncio.CancelledError:
            self._waiting.pop(entry.number, None)
            self._drop_cancelled()
            if not slot.cancelled() and slot.exception() is None:
                self.release()  # The slot was granted just before the caller was cancelled.
            raise

    def release(self, seconds: float | None = None) -> None:
        """Return a slot; `seconds` is the duration of the request if it should count for Retry-After."""
        self.running -= 1
        if seconds is not None:
            self._mean_seconds += EMA_WEIGHT * (seconds - self._mean_seconds)
        self._admit()
        if not self.running:
            for waiter in self._idle_waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle_waiters.clear()

    async def wait_idle(self) -> None:
        """Wait until no slot is in use."""
        while self.running:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle_waiters.append(waiter)
            await waiter

    def reject(self, request_id: str, error: RequestError) -> bool:
        """End a queued request with an error; False if no queued request has this id."""
        for entry in self._waiting.values():
            if entry.request_id == request_id and not entry.slot.done():
                del self._waiting[entry.number]
                entry.slot.set_exception(error)
                return True
        return False

    def reject_all(self, make_error: Callable[[], RequestError]) -> None:
        """End every queued request with an error."""
        for entry in self._waiting.values():
            if not entry.slot.done():
                entry.slot.set_exception(make_error())
        self._waiting.clear()
        self._heap.clear()

    def _admit(self) -> None:
        while self._heap and self.running < self._slots:
            entry = heapq.heappop(self._heap)
            if self._waiting.pop(entry.number, None) is not None and not entry.slot.done():
                self.running += 1
                entry.slot.set_result(None)

    def _drop_cancelled(self) -> None:
        if len(self._heap) > 2 * len(self._waiting) + MAX_CANCELLED:
            self._heap = list(self._waiting.values())
            heapq.heapify(self._heap)

    def _retry_after(self) -> float:
        rounds = (self.waiting + 1) / max(self._slots, 1)
        return clamp_retry_after(rounds * self._mean_seconds)

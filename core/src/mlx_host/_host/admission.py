"""Who may run: first come, first served within each priority, with a bounded queue."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from mlx_host.errors import AtCapacity, ModelUnavailable
from mlx_host.requests import Priority

# The SDKs obey a Retry-After of up to two minutes and give up on a longer one.
LONGEST_RETRY = 120.0
# How much the newest request weighs in the running mean of how long requests take.
NEWEST_WEIGHT = 0.2

Place = tuple[Priority, int, asyncio.Future[None]]


class Admission:
    """The slots of one model and the queue before them.

    `slots` is 0 while the model is not loaded: then everybody waits.
    """

    def __init__(self, queue_size: int, slots: int = 0) -> None:
        self.queue_size = queue_size
        self.running = 0
        self._slots = slots
        self._queue: list[Place] = []
        self._tickets = itertools.count()
        self._mean_seconds = 1.0

    @property
    def slots(self) -> int:
        return self._slots

    @slots.setter
    def slots(self, slots: int) -> None:
        self._slots = slots
        self._admit()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def enter(self, priority: Priority) -> None:
        """Wait for a slot; AtCapacity if the queue is full. Every success must be followed by leave()."""
        if self.running < self._slots and not self._queue:
            self.running += 1
            return
        if len(self._queue) >= self.queue_size:
            raise AtCapacity("Too many requests. Service is at capacity.", retry_after=self._retry_after())
        place = (priority, next(self._tickets), asyncio.get_running_loop().create_future())
        heapq.heappush(self._queue, place)
        try:
            await place[2]
        except asyncio.CancelledError:
            if place in self._queue:
                self._queue.remove(place)
                heapq.heapify(self._queue)
            elif not place[2].cancelled() and place[2].exception() is None:
                self.leave()  # The slot came at the very moment the caller gave up.
            raise

    def leave(self, seconds: float | None = None) -> None:
        """Give the slot back; `seconds` is how long the request ran, if it is to count for Retry-After."""
        self.running -= 1
        if seconds is not None:
            self._mean_seconds += NEWEST_WEIGHT * (seconds - self._mean_seconds)
        self._admit()

    def _admit(self) -> None:
        while self._queue and self.running < self._slots:
            _, _, admitted = heapq.heappop(self._queue)
            if not admitted.done():
                self.running += 1
                admitted.set_result(None)

    def refuse_all(self, reason: str) -> None:
        """Send away everybody who waits, with a ModelUnavailable each."""
        for _, _, admitted in self._queue:
            if not admitted.done():
                admitted.set_exception(ModelUnavailable(reason))
        self._queue.clear()

    def _retry_after(self) -> float:
        turns = (self.waiting + 1) / max(self._slots, 1)
        return min(max(1.0, turns * self._mean_seconds), LONGEST_RETRY)

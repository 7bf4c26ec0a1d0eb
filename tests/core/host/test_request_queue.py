from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mlx_host._host.request_queue import MAX_CANCELLED, MAX_RETRY_AFTER, QueueEntry, RequestQueue
from mlx_host.errors import ModelUnavailableError, QueueFullError
from mlx_host.requests import Priority


async def settle() -> None:
    """Run every task until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


class Waiters:
    """Requests that wait for a slot, and the names of those that acquired one."""

    def __init__(self, queue: RequestQueue) -> None:
        self.queue = queue
        self.admitted: list[str] = []

    async def acquire(self, name: str, priority: Priority = Priority.NORMAL) -> asyncio.Task[None]:
        async def go() -> None:
            await self.queue.acquire(name, priority)
            self.admitted.append(name)

        task = asyncio.create_task(go(), name=name)
        await settle()
        return task


def test_first_come_first_served_within_each_priority() -> None:
    async def main() -> None:
        waiters = Waiters(RequestQueue(10, slots=1))
        names = [("running", 1), ("normal 1", 1), ("low 1", 2), ("high 1", 0), ("normal 2", 1), ("high 2", 0)]
        tasks = [await waiters.acquire(name, Priority(priority)) for name, priority in names]
        for _ in names:
            waiters.queue.release()
            await settle()
        assert waiters.admitted == ["running", "high 1", "high 2", "normal 1", "normal 2", "low 1"]
        assert all(task.done() for task in tasks)
        assert (waiters.queue.running, waiters.queue.waiting) == (0, 0)

    asyncio.run(main())


def test_full_queue_rejects_with_retry_after() -> None:
    async def main() -> None:
        waiters = Waiters(RequestQueue(1, slots=1))
        await waiters.acquire("running")
        waiting = await waiters.acquire("waiting")
        with pytest.raises(QueueFullError, match="at capacity") as caught:
            await waiters.queue.acquire("late", Priority.HIGH)
        assert caught.value.retry_after is not None
        assert 1 <= caught.value.retry_after <= MAX_RETRY_AFTER
        waiting.cancel()

    asyncio.run(main())


def test_retry_after_follows_the_duration_of_requests_and_is_limited() -> None:
    async def main() -> None:
        queue = RequestQueue(0, slots=1)

        async def retry_after() -> float:
            with pytest.raises(QueueFullError) as caught:
                await queue.acquire("r", Priority.NORMAL)
            assert caught.value.retry_after is not None
            return caught.value.retry_after

        await queue.acquire("r", Priority.NORMAL)
        assert await retry_after() == 1
        queue.release(20)
        await queue.acquire("r", Priority.NORMAL)
        assert 2 < await retry_after() < 20
        queue.release(10_000)
        await queue.acquire("r", Priority.NORMAL)
        assert await retry_after() == MAX_RETRY_AFTER

    asyncio.run(main())


def test_cancelled_request_leaves_the_queue() -> None:
    async def main() -> None:
        waiters = Waiters(RequestQueue(2, slots=1))
        await waiters.acquire("running")
        first, second = await waiters.acquire("first"), await waiters.acquire("second")
        first.cancel()
        await settle()
        assert waiters.queue.waiting == 1
        await waiters.acquire("third")
        waiters.queue.release()
        await settle()
        assert waiters.admitted == ["running", "second"]
        assert second.done()

    asyncio.run(main())


def test_slot_granted_to_a_request_that_is_cancelled_goes_to_the_next() -> None:
    async def main() -> None:
        waiters = Waiters(RequestQueue(2, slots=1))
        await waiters.acquire("running")
        first = await waiters.acquire("first")
        await waiters.acquire("second")
        waiters.queue.release()
        first.cancel()
        await settle()
        assert waiters.admitted == ["running", "second"]
        assert waiters.queue.running == 1

    asyncio.run(main())


def test_changing_the_number_of_slots() -> None:
    async def main() -> None:
        waiters = Waiters(RequestQueue(5))
        tasks = [await waiters.acquire(str(number)) for number in range(4)]
        assert not waiters.admitted
        waiters.queue.slots = 3
        await settle()
        assert waiters.admitted == ["0", "1", "2"]
        waiters.queue.slots = 0
        waiters.queue.release()
        await settle()
        assert waiters.admitted == ["0", "1", "2"]
        tasks[3].cancel()

    asyncio.run(main())


def test_all_waiting_requests_can_be_rejected() -> None:
    async def main() -> None:
        waiters = Waiters(RequestQueue(5, slots=1))
        await waiters.acquire("running")
        waiting = [await waiters.acquire(str(number)) for number in range(2)]
        waiters.queue.reject_all(lambda: ModelUnavailableError("the model is gone"))
        await settle()
        assert [str(task.exception()) for task in waiting] == ["the model is gone"] * 2
        assert all(isinstance(task.exception(), ModelUnavailableError) for task in waiting)
        assert (waiters.queue.running, waiters.queue.waiting) == (1, 0)

    asyncio.run(main())


def test_one_waiting_request_can_be_rejected() -> None:
    async def main() -> None:
        waiters = Waiters(RequestQueue(5, slots=1))
        await waiters.acquire("running")
        first, second = await waiters.acquire("first"), await waiters.acquire("second")
        assert waiters.queue.reject("first", ModelUnavailableError("cancelled"))
        assert not waiters.queue.reject("unknown", ModelUnavailableError("cancelled"))
        await settle()
        assert str(first.exception()) == "cancelled"
        waiters.queue.release()
        await settle()
        assert second.done()
        assert waiters.admitted == ["running", "second"]

    asyncio.run(main())


def test_cancelled_requests_neither_block_the_queue_nor_accumulate() -> None:
    async def main() -> None:
        waiters = Waiters(RequestQueue(2000))
        tasks = [asyncio.create_task(waiters.queue.acquire(str(number), Priority.NORMAL)) for number in range(1000)]
        await settle()
        last = await waiters.acquire("last")
        for task in tasks:
            task.cancel()
        await settle()
        assert waiters.queue.waiting == 1
        assert len(waiters.queue._heap) <= MAX_CANCELLED + 2
        waiters.queue.slots = 1
        await settle()
        assert last.done()
        assert waiters.admitted == ["last"]

    asyncio.run(main())


class Comparisons:
    """Counts comparisons of entries, which a linear search would make."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("__eq__", "__lt__"):
            compare = getattr(QueueEntry, name)

            def counted(entry: object, other: object, compare: Any = compare) -> Any:
                self.count += 1
                return compare(entry, other)

            monkeypatch.setattr(QueueEntry, name, counted)


def test_cancelling_does_not_search_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    comparisons = Comparisons(monkeypatch)

    async def main() -> None:
        queue = RequestQueue(2000)
        tasks = [asyncio.create_task(queue.acquire(str(number), Priority.NORMAL)) for number in range(2000)]
        await settle()
        comparisons.count = 0
        for task in reversed(tasks):
            task.cancel()
        await settle()
        assert queue.waiting == 0

    asyncio.run(main())
    assert comparisons.count < 20 * 2000


def test_wait_idle_waits_for_every_slot() -> None:
    async def main() -> None:
        queue = RequestQueue(0, slots=2)
        await queue.wait_idle()
        await queue.acquire("a", Priority.NORMAL)
        await queue.acquire("b", Priority.NORMAL)
        idle = asyncio.create_task(queue.wait_idle())
        queue.release()
        await settle()
        assert not idle.done()
        queue.release()
        await settle()
        assert idle.done()

    asyncio.run(main())

from __future__ import annotations

import asyncio

import pytest
from mlx_host._host.admission import LONGEST_RETRY, Admission
from mlx_host.errors import AtCapacity, ModelUnavailable
from mlx_host.requests import Priority


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


class Crowd:
    """Requests that enter and note when they are in."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.entered: list[str] = []

    async def enter(self, name: str, priority: Priority = Priority.NORMAL) -> asyncio.Task[None]:
        async def go() -> None:
            await self.admission.enter(priority)
            self.entered.append(name)

        task = asyncio.create_task(go(), name=name)
        await settle()
        return task


def test_first_come_first_served_within_each_priority() -> None:
    async def main() -> None:
        crowd = Crowd(Admission(10, slots=1))
        names = [("running", 1), ("normal 1", 1), ("low 1", 2), ("high 1", 0), ("normal 2", 1), ("high 2", 0)]
        tasks = [await crowd.enter(name, Priority(priority)) for name, priority in names]
        for _ in names:
            crowd.admission.leave()
            await settle()
        assert crowd.entered == ["running", "high 1", "high 2", "normal 1", "normal 2", "low 1"]
        assert all(task.done() for task in tasks)
        assert (crowd.admission.running, crowd.admission.waiting) == (0, 0)

    asyncio.run(main())


def test_full_queue_refuses_and_says_when_to_come_again() -> None:
    async def main() -> None:
        crowd = Crowd(Admission(1, slots=1))
        await crowd.enter("running")
        waiting = await crowd.enter("waiting")
        with pytest.raises(AtCapacity, match="at capacity") as caught:
            await crowd.admission.enter(Priority.HIGH)
        assert caught.value.retry_after is not None
        assert 1 <= caught.value.retry_after <= LONGEST_RETRY
        waiting.cancel()

    asyncio.run(main())


def test_retry_after_follows_how_long_requests_take_and_has_an_end() -> None:
    async def main() -> None:
        admission = Admission(0, slots=1)

        async def refused() -> float:
            with pytest.raises(AtCapacity) as caught:
                await admission.enter(Priority.NORMAL)
            assert caught.value.retry_after is not None
            return caught.value.retry_after

        await admission.enter(Priority.NORMAL)
        assert await refused() == 1
        admission.leave(20)
        await admission.enter(Priority.NORMAL)
        assert 2 < await refused() < 20
        admission.leave(10_000)
        await admission.enter(Priority.NORMAL)
        assert await refused() == LONGEST_RETRY

    asyncio.run(main())


def test_who_gives_up_leaves_the_queue() -> None:
    async def main() -> None:
        crowd = Crowd(Admission(2, slots=1))
        await crowd.enter("running")
        first, second = await crowd.enter("first"), await crowd.enter("second")
        first.cancel()
        await settle()
        assert crowd.admission.waiting == 1
        await crowd.enter("third")
        crowd.admission.leave()
        await settle()
        assert crowd.entered == ["running", "second"]
        assert second.done()

    asyncio.run(main())


def test_slot_that_comes_as_its_taker_gives_up_goes_to_the_next() -> None:
    async def main() -> None:
        crowd = Crowd(Admission(2, slots=1))
        await crowd.enter("running")
        first = await crowd.enter("first")
        await crowd.enter("second")
        crowd.admission.leave()
        first.cancel()
        await settle()
        assert crowd.entered == ["running", "second"]
        assert crowd.admission.running == 1

    asyncio.run(main())


def test_more_slots_let_more_in_and_none_lets_nobody_in() -> None:
    async def main() -> None:
        crowd = Crowd(Admission(5))
        tasks = [await crowd.enter(str(number)) for number in range(4)]
        assert not crowd.entered
        crowd.admission.slots = 3
        await settle()
        assert crowd.entered == ["0", "1", "2"]
        crowd.admission.slots = 0
        crowd.admission.leave()
        await settle()
        assert crowd.entered == ["0", "1", "2"]
        tasks[3].cancel()

    asyncio.run(main())


def test_everybody_who_waits_can_be_sent_away() -> None:
    async def main() -> None:
        crowd = Crowd(Admission(5, slots=1))
        await crowd.enter("running")
        waiting = [await crowd.enter(str(number)) for number in range(2)]
        crowd.admission.refuse_all("the model is gone")
        await settle()
        assert [str(task.exception()) for task in waiting] == ["the model is gone"] * 2
        assert all(isinstance(task.exception(), ModelUnavailable) for task in waiting)
        assert (crowd.admission.running, crowd.admission.waiting) == (1, 0)

    asyncio.run(main())

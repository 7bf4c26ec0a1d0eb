"""A model is given up where it cannot be kept up; whoever waits for it learns why."""

from __future__ import annotations

import asyncio

import pytest
from mlx_host._engine.worker import Worker
from mlx_host._host import ModelLimits, ModelState, ServedModel
from mlx_host.errors import LoadError, ModelUnavailable
from mlx_host.requests import Priority


def no_worker() -> Worker:
    raise ZeroDivisionError("no worker")


def test_unforeseen_fault_gives_the_model_up() -> None:
    async def main() -> None:
        model = ServedModel("m", no_worker, ModelLimits())
        waiting = asyncio.create_task(model.admission.enter(Priority.NORMAL))
        await asyncio.sleep(0)
        model.start()
        with pytest.raises(LoadError, match="ZeroDivisionError: no worker"):
            await asyncio.wait_for(model.loaded(), 60)
        assert model.state is ModelState.FAILED
        with pytest.raises(ModelUnavailable, match="'m' failed: it cannot be kept up"):
            await waiting
        await model.stop(1)

    asyncio.run(main())

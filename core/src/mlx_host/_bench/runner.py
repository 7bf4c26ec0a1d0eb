"""One run of `mlx-host bench`: find or start the server, warm it up, measure each concurrency in turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mlx_host._bench.client import Client, Point, Workload
from mlx_host._bench.http_client import Target
from mlx_host._bench.server import run_command, running
from mlx_host.errors import UsageError


@dataclass(frozen=True)
class Session:
    """What was measured where; `workload.model` is the model's name as the server lists it."""

    url: str
    workload: Workload
    points: Sequence[Point]


async def measure(
    target: Target | None, options: Sequence[str], workload: Workload, plan: Sequence[tuple[int, int]], timeout: float
) -> Session:
    """Measure each (concurrency, requests) of `plan`.

    Without `target` a server is started for the workload's model with `options` of `mlx-host run`.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal))
        if target is None:
            starting = progress.add_task("starting the server", total=None)
            target = await stack.enter_async_context(running(run_command(workload.model, options)))
            progress.remove_task(starting)
            # It may serve the model under a shorter name than the reference it was started with.
            workload = replace(workload, model="")
        client = Client(target, timeout)
        workload = replace(workload, model=workload.model or await _only_model(client))
        await client.probe(workload)
        points = [await _measure_point(client, workload, *point, progress) for point in plan]
        return Session(target.url, workload, points)


async def _measure_point(
    client: Client, workload: Workload, concurrency: int, requests: int, progress: Progress
) -> Point:
    bar = progress.add_task(f"{concurrency} at once", total=requests)
    return await client.measure(workload, concurrency, requests, on_end=lambda: progress.advance(bar))


async def _only_model(client: Client) -> str:
    names = await client.models()
    if len(names) != 1:
        raise UsageError(
            f"{client.target.url} serves {len(names)} models: name one with --model ({', '.join(names) or 'none'})."
        )
    return names[0]

"""Runs a benchmark: starts a server if necessary, warms it up and measures each concurrency."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mlx_host._bench.client import Client, ConcurrencyResult, Workload
from mlx_host._bench.http_client import Target
from mlx_host._bench.server import run_command, run_server
from mlx_host.errors import UsageError


@dataclass(frozen=True)
class BenchResult:
    """The results of a benchmark; `workload.model` is the model's name as listed by the server."""

    url: str
    workload: Workload
    results: Sequence[ConcurrencyResult]


async def run_benchmark(
    target: Target | None, options: Sequence[str], workload: Workload, plan: Sequence[tuple[int, int]], timeout: float
) -> BenchResult:
    """Measure each (concurrency, number of requests) of `plan`.

    If `target` is None, a server is started with the workload's model and `options` of `mlx-host run`.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal))
        if target is None:
            starting = progress.add_task("starting the server", total=None)
            target = await stack.enter_async_context(run_server(run_command(workload.model, options)))
            progress.remove_task(starting)
            # The served name can differ from the reference that the server was started with.
            workload = replace(workload, model="")
        client = Client(target, timeout)
        workload = replace(workload, model=workload.model or await _only_model(client))
        await client.warm_up(workload)
        results = [await _measure(client, workload, *step, progress) for step in plan]
        return BenchResult(target.url, workload, results)


async def _measure(
    client: Client, workload: Workload, concurrency: int, requests: int, progress: Progress
) -> ConcurrencyResult:
    bar = progress.add_task(f"concurrency {concurrency}", total=requests)
    return await client.measure(workload, concurrency, requests, on_end=lambda: progress.advance(bar))


async def _only_model(client: Client) -> str:
    names = await client.models()
    if len(names) != 1:
        raise UsageError(
            f"{client.target.url} serves {len(names)} models; select one with --model: {', '.join(names) or 'none'}."
        )
    return names[0]

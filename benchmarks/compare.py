"""Compares mlx-host with mlx_lm.server and with mlx-lm's engine called directly: `uv run python -m benchmarks.compare`.

All three run on one machine and take turns, round after round, with the same prompts and concurrencies. The table has
the medians over the rounds, and the median of the ratios to the engine in the same round.
"""

from __future__ import annotations

import asyncio
import ctypes.util
import json
import os
import platform
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import rich_click as click
import uvloop
from mlx_host._bench.client import Client, Workload
from mlx_host._bench.report import concurrency_json
from mlx_host._bench.server import run_command, run_server
from mlx_host_demo.plugin import resolve_source

from tests.support.tiny_llama import write_tiny_llama

Numbers = dict[str, Any]

CONCURRENCIES = (1, 8, 32)
"""The last is mlx-lm's own batch limit."""


@dataclass(frozen=True)
class Case:
    """A model and the size of a measurement: `factor` times as many requests as run concurrently."""

    name: str
    path: Path
    max_tokens: int
    factor: int

    def requests(self, concurrency: int) -> int:
        return max(2, self.factor * concurrency)


class Candidate(ABC):
    name: str

    @abstractmethod
    async def measure(self, workload: Workload, concurrency: int, requests: int) -> Numbers: ...


class Server(Candidate):
    def __init__(self, name: str, client: Client, model: str) -> None:
        self.name = name
        self._client = client
        self._model = model

    async def measure(self, workload: Workload, concurrency: int, requests: int) -> Numbers:
        point = await self._client.measure(replace(workload, model=self._model), concurrency, requests)
        return concurrency_json(point)


class Engine(Candidate):
    name = "engine directly"

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._jobs = process.stdin
        self._results = process.stdout

    async def measure(self, workload: Workload, concurrency: int, requests: int) -> Numbers:
        prompts = [workload.prompt(number) for number in range(1, requests + 1)]
        job = {"prompts": prompts, "concurrency": concurrency, "max_tokens": workload.max_tokens}
        self._jobs.write(json.dumps(job).encode() + b"\n")
        numbers: Numbers = json.loads(await self._results.readline())
        return numbers

    async def ready(self) -> None:
        await self._results.readline()

    async def close(self) -> None:
        # Closing its input would end it only when it is idle.
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


def preload() -> dict[str, str]:
    """Return the variables that preload OpenBLAS, if installed, in place of the slow BLAS of MLX's CPU wheel."""
    blas = ctypes.util.find_library("openblas") if sys.platform == "linux" else None
    return {"LD_PRELOAD": blas} if blas else {}


@asynccontextmanager
async def engine(path: Path) -> AsyncIterator[Engine]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.engine", str(path), stdin=PIPE, stdout=PIPE, env=os.environ | preload()
    )
    candidate = Engine(process)
    try:
        await candidate.ready()
        yield candidate
    finally:
        await candidate.close()


@asynccontextmanager
async def candidates(path: Path) -> AsyncIterator[list[Candidate]]:
    variables = [f"{name}={value}" for name, value in preload().items()]
    ours = run_command(str(path), ["--backend", "lm", *(f"--env={variable}" for variable in variables)])
    theirs = ["env", *variables, sys.executable, "-m", "mlx_lm", "server", "--model", str(path), "--log-level", "ERROR"]
    async with AsyncExitStack() as stack:
        client = Client(await stack.enter_async_context(run_server(ours)))
        (model,) = await client.models()
        yield [
            await stack.enter_async_context(engine(path)),
            Server("mlx-host", client, model),
            Server("mlx_lm.server", Client(await stack.enter_async_context(run_server(theirs))), "default_model"),
        ]


async def compare(case: Case, rounds: int, concurrencies: Sequence[int]) -> list[Numbers]:
    """Measure all candidates in turn; return one row per candidate and concurrency, with the numbers of every round."""
    rows: dict[tuple[int, str], list[Numbers]] = {}
    async with candidates(case.path) as order:
        for number in range(rounds + 1):
            workload = Workload("", case.max_tokens if number else 4, salt=f"{number}-")
            for concurrency in concurrencies:
                for candidate in order:
                    click.echo(f"{case.name}, round {number} of {rounds}: {candidate.name} at {concurrency}", err=True)
                    numbers = await candidate.measure(workload, concurrency, case.requests(concurrency))
                    # Round 0 is the warm-up: it compiles kernels.
                    if number:
                        rows.setdefault((concurrency, candidate.name), []).append(numbers)
            # Rotate, so that no candidate is always first.
            order = order[1:] + order[:1]
    return [
        {"model": case.name, "concurrency": concurrency, "contender": name, "rounds": numbers}
        | summary(numbers, rows[concurrency, Engine.name])
        for (concurrency, name), numbers in sorted(rows.items())
    ]


def summary(rounds: Sequence[Numbers], engine_rounds: Sequence[Numbers]) -> Numbers:
    """Return the medians over the rounds; `ratio_to_engine` is the median of the ratios of each round."""
    speed = "tokens_per_second"
    return {
        speed: median(numbers[speed] for numbers in rounds),
        "ratio_to_engine": median(
            numbers[speed] / reference[speed] for numbers, reference in zip(rounds, engine_rounds, strict=True)
        ),
        "time_to_first_token": median(numbers["time_to_first_token"]["p50"] for numbers in rounds),
        "completion_tokens": median(numbers["completion_tokens"] for numbers in rounds),
        "failed": sum(numbers["failed"] for numbers in rounds),
    }


def markdown(rows: Sequence[Numbers]) -> str:
    lines = [
        "| model | concurrent requests | | tokens/s | ratio to engine | time to first token, p50 | completion tokens "
        "| failed |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['model']} | {row['concurrency']} | {row['contender']} | {row['tokens_per_second']:.0f} "
        f"| {row['ratio_to_engine']:.0%} | {row['time_to_first_token'] * 1000:.0f} ms "
        f"| {row['completion_tokens']:.0f} | {row['failed']} |"
        for row in rows
    ]
    return "\n".join(lines)


def machine() -> dict[str, str]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: version(name) for name in ("mlx", "mlx-lm", "mlx-host")},
        **preload(),
    }


def cases(names: Sequence[str], folder: Path) -> list[Case]:
    """Return the cases of the default models, or of any others that mlx-lm can load from a folder."""
    found = []
    for name in names:
        if name == "random llama":
            found.append(Case(name, write_tiny_llama(folder / "random-llama"), max_tokens=64, factor=4))
        elif (source := resolve_source(name)) is not None:
            found.append(Case(name, source.fetch(lambda *_, **__: None), max_tokens=32, factor=1))
        else:
            found.append(Case(name, Path(name), max_tokens=64, factor=2))
    return found


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("demo:smollm2", "random llama"),
    help="Model to measure; can be repeated.",
    show_default=True,
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Measured rounds.")
@click.option(
    "--concurrency",
    "concurrencies",
    type=int,
    multiple=True,
    default=CONCURRENCIES,
    show_default=True,
    help="Number of concurrent requests; can be repeated.",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the numbers of every round to this file."
)
def main(models: tuple[str, ...], rounds: int, concurrencies: tuple[int, ...], json_path: Path | None) -> None:
    """Compare mlx-host, mlx_lm.server and mlx-lm's engine on this machine."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(models, Path(folder)):
            rows += uvloop.run(compare(case, rounds, concurrencies))
    about = machine()
    if json_path is not None:
        json_path.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")
    click.echo(", ".join(f"{name} {value}" for name, value in about.items()))
    click.echo(markdown(rows))


if __name__ == "__main__":
    main()

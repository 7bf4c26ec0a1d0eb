"""Compares mlx-host with mlx_lm.server and with mlx-lm's engine called directly: `uv run python -m benchmarks.compare`.

All three run on one machine. In each round they get the same prompts at the same concurrencies, one after another. The
table has the medians over the rounds and the median ratio to the engine in the same round.
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
from mlx_host._bench.report import point_json
from mlx_host._bench.server import run_command, running
from mlx_host_demo.plugin import resolve_source

from tests.support.tiny_llama import write_tiny_llama

Numbers = dict[str, Any]

CONCURRENCIES = (1, 8, 32)
"""The last is mlx-lm's own limit for a batch."""


@dataclass(frozen=True)
class Case:
    """A model and the size of a measurement: `factor` times as many requests as the concurrency."""

    name: str
    path: Path
    max_tokens: int
    factor: int

    def requests(self, concurrency: int) -> int:
        return max(2, self.factor * concurrency)


class Contender(ABC):
    name: str

    @abstractmethod
    async def measure(self, workload: Workload, concurrency: int, requests: int) -> Numbers: ...


class Server(Contender):
    def __init__(self, name: str, client: Client, model: str) -> None:
        self.name = name
        self._client = client
        self._model = model

    async def measure(self, workload: Workload, concurrency: int, requests: int) -> Numbers:
        point = await self._client.measure(replace(workload, model=self._model), concurrency, requests)
        return point_json(point)


class Engine(Contender):
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
        # It exits at the end of its input only when idle; an interrupt would let it finish its job first.
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


def preload() -> dict[str, str]:
    """The environment that preloads OpenBLAS where it is installed; the BLAS of MLX's CPU wheel is slow."""
    blas = ctypes.util.find_library("openblas") if sys.platform == "linux" else None
    return {"LD_PRELOAD": blas} if blas else {}


@asynccontextmanager
async def engine(path: Path) -> AsyncIterator[Engine]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.engine", str(path), stdin=PIPE, stdout=PIPE, env=os.environ | preload()
    )
    contender = Engine(process)
    try:
        await contender.ready()
        yield contender
    finally:
        await contender.close()


@asynccontextmanager
async def contenders(path: Path) -> AsyncIterator[list[Contender]]:
    variables = [f"{name}={value}" for name, value in preload().items()]
    ours = run_command(str(path), ["--backend", "lm", *(f"--env={variable}" for variable in variables)])
    theirs = ["env", *variables, sys.executable, "-m", "mlx_lm", "server", "--model", str(path), "--log-level", "ERROR"]
    async with AsyncExitStack() as stack:
        client = Client(await stack.enter_async_context(running(ours)))
        (model,) = await client.models()
        yield [
            await stack.enter_async_context(engine(path)),
            Server("mlx-host", client, model),
            Server("mlx_lm.server", Client(await stack.enter_async_context(running(theirs))), "default_model"),
        ]


async def compare(case: Case, rounds: int, concurrencies: Sequence[int]) -> list[Numbers]:
    """Measure all contenders in turn; return a row per contender and concurrency with the numbers of every round."""
    rows: dict[tuple[int, str], list[Numbers]] = {}
    async with contenders(case.path) as lined_up:
        for number in range(rounds + 1):
            workload = Workload("", case.max_tokens if number else 4, salt=f"{number}-")
            for concurrency in concurrencies:
                for contender in lined_up:
                    click.echo(f"{case.name}, round {number} of {rounds}: {contender.name} at {concurrency}", err=True)
                    numbers = await contender.measure(workload, concurrency, case.requests(concurrency))
                    # Round 0 is the warm-up: it compiles kernels and fills pools.
                    if number:
                        rows.setdefault((concurrency, contender.name), []).append(numbers)
            # Vary the order, so that no contender always runs first or after the same one.
            lined_up = lined_up[1:] + lined_up[:1]
    return [
        {"model": case.name, "concurrency": concurrency, "contender": name, "rounds": numbers}
        | summary(numbers, rows[concurrency, Engine.name])
        for (concurrency, name), numbers in sorted(rows.items())
    ]


def summary(rounds: Sequence[Numbers], limit: Sequence[Numbers]) -> Numbers:
    """The medians over the rounds; ratios are to the engine in the same round."""
    speed = "tokens_per_second"
    return {
        speed: median(numbers[speed] for numbers in rounds),
        "ratio_to_engine": median(
            numbers[speed] / reference[speed] for numbers, reference in zip(rounds, limit, strict=True)
        ),
        "time_to_first_token": median(numbers["time_to_first_token"]["p50"] for numbers in rounds),
        "completion_tokens": median(numbers["completion_tokens"] for numbers in rounds),
        "failed": sum(numbers["failed"] for numbers in rounds),
    }


def markdown(rows: Sequence[Numbers]) -> str:
    lines = [
        "| model | requests at once | | tokens/s | of the engine's | first token, p50 | tokens made | failed |",
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
    """The two default models, or any that mlx-lm can load from a folder."""
    made = []
    for name in names:
        if name == "random llama":
            made.append(Case(name, write_tiny_llama(folder / "random-llama"), max_tokens=64, factor=4))
        elif (source := resolve_source(name)) is not None:
            made.append(Case(name, source.fetch(lambda *_, **__: None), max_tokens=32, factor=1))
        else:
            made.append(Case(name, Path(name), max_tokens=64, factor=2))
    return made


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("demo:smollm2", "random llama"),
    help="May be repeated.",
    show_default=True,
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--concurrency", "concurrencies", type=int, multiple=True, default=CONCURRENCIES, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every number of every round there.")
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

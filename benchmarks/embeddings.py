"""Compares /v1/embeddings with mlx-embeddings called directly: `uv run python -m benchmarks.embeddings`.

Both embed the same texts of mixed length with all-MiniLM-L6-v2 and take turns, round after round. The table has the
median texts per second. The library embeds all texts as one padded batch, or one after another; the server's time
includes HTTP and JSON.
"""

from __future__ import annotations

import asyncio
import ctypes.util
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import IO, Any

import httpx2
import rich_click as click
import uvloop
from mlx_host._bench.server import run_command, run_server
from mlx_host_demo.plugin import resolve_source

MODEL = "demo:minilm"
COUNTS = (1, 32, 512)
CLIENTS = 32
WORDS = (
    *("river", "account", "password", "engine", "harbour", "invoice", "winter", "protein", "guitar", "contract"),
    *("opens", "delays", "measures", "follows", "the", "of", "a", "between", "quietly", "seven"),
)
MAX_WORDS = 160


def make_texts(count: int, seed: int) -> list[str]:
    """Return texts of 3 to MAX_WORDS words, most of them short, as queries and passages are."""
    rng = random.Random(seed)
    lengths = [round(3 * (MAX_WORDS / 3) ** rng.random()) for _ in range(count)]
    return [" ".join(rng.choices(WORDS, k=length)) for length in lengths]


def preload() -> dict[str, str]:
    """Return the variables that preload OpenBLAS, if installed, in place of the slow BLAS of MLX's CPU wheel."""
    blas = ctypes.util.find_library("openblas") if sys.platform == "linux" else None
    return {"LD_PRELOAD": blas} if blas else {}


def run_library(folder: str) -> None:
    """Read {"texts", "batched"} lines from stdin and print the seconds that mlx-embeddings takes for each."""
    import mlx.core as mx
    from mlx_embeddings import generate, load

    network, tokenizer = load(folder)
    for line in sys.stdin:
        job = json.loads(line)
        batches = [job["texts"]] if job["batched"] else [[text] for text in job["texts"]]
        began = time.perf_counter()
        for batch in batches:
            mx.eval(generate(network, tokenizer, batch).text_embeds)
        print(time.perf_counter() - began, flush=True)


class Library:
    """mlx-embeddings in a separate process."""

    def __init__(self, jobs: IO[str], results: IO[str]) -> None:
        self._jobs = jobs
        self._results = results

    def seconds(self, texts: Sequence[str], batched: bool) -> float:
        print(json.dumps({"texts": texts, "batched": batched}), file=self._jobs, flush=True)
        return float(self._results.readline())


@contextmanager
def library_process(folder: Path) -> Iterator[Library]:
    command = [sys.executable, "-m", "benchmarks.embeddings", "--library", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | preload()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Library(process.stdin, process.stdout)
        process.stdin.close()


async def embed(client: httpx2.AsyncClient, texts: Sequence[str]) -> None:
    response = await client.post("/embeddings", json={"input": texts, "encoding_format": "base64"})
    response.raise_for_status()
    assert len(response.json()["data"]) == len(texts)


async def embed_separately(client: httpx2.AsyncClient, texts: Sequence[str]) -> None:
    """Embed one text per request, with CLIENTS concurrent clients."""
    waiting = iter(texts)

    async def one() -> None:
        for text in waiting:
            await embed(client, [text])

    await asyncio.gather(*(one() for _ in range(CLIENTS)))


async def timed(work: Any) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def measure(rounds: int) -> dict[str, dict[int, list[float]]]:
    """Return the texts per second of each round, by candidate and number of texts."""
    speeds: dict[str, dict[int, list[float]]] = {}
    source = resolve_source(MODEL)
    assert source is not None
    environment = [part for name, value in preload().items() for part in ("--env", f"{name}={value}")]
    command = run_command(MODEL, ["--backend", "embeddings", *environment])
    with library_process(source.fetch(lambda stage, done, total, note="": None)) as library:
        async with run_server(command) as target:
            url = f"http://{target.host}:{target.port}{target.path}"
            async with httpx2.AsyncClient(base_url=url, timeout=600) as client:
                for turn in range(rounds + 1):
                    for count in COUNTS:
                        texts = make_texts(count, seed=turn * 1000 + count)
                        seconds = {
                            "mlx-host, one request": await timed(embed(client, texts)),
                            f"mlx-host, {CLIENTS} clients, one text per request": await timed(
                                embed_separately(client, texts)
                            ),
                            "mlx-embeddings, one padded batch": library.seconds(texts, batched=True),
                            "mlx-embeddings, one by one": library.seconds(texts, batched=False),
                        }
                        if turn:  # Round 0 is the warm-up.
                            for name, took in seconds.items():
                                speeds.setdefault(name, {}).setdefault(count, []).append(count / took)
    return speeds


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True, help="Measured rounds.")
@click.option("--library", "folder", hidden=True, help="Run mlx-embeddings with this model.")
def main(rounds: int, folder: str | None) -> None:
    if folder is not None:
        run_library(folder)
        return
    speeds = uvloop.run(measure(rounds))
    mlx, library = version("mlx"), version("mlx-embeddings")
    print(f"{platform.platform()}, {os.cpu_count()} processors, mlx {mlx}, mlx-embeddings {library}\n")
    print("| texts per second | " + " | ".join(f"{count} texts" for count in COUNTS) + " |")
    print("| --- |" + " ---: |" * len(COUNTS))
    for name, by_count in speeds.items():
        cells = [
            f"{median(by_count[count]):.1f} ({min(by_count[count]):.1f}-{max(by_count[count]):.1f})" for count in COUNTS
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

"""Compares constrained and unconstrained generation: `uv run python -m benchmarks.structured`.

Runs the backend lm with the engine's loop in one process, without a server. Each round generates the same number of
tokens unconstrained and constrained by a JSON schema for longer outputs. The table has the median tokens per second of
each, and the median of the ratios of each round. Prompts are short, the temperature is 0.7.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import rich_click as click
from mlx_host._engine.ipc import Submit
from mlx_host._engine.loop import Loop
from mlx_host.backend import LoadContext
from mlx_host.events import TextDelta
from mlx_host.grammar import FixedConstraint, JsonValue
from mlx_host.requests import ChatRequest, Json, Sampling
from mlx_host_demo.plugin import resolve_source
from mlx_host_lm.loader import load_model
from mlx_host_lm.options import LmOptions
from mlx_host_text.model import TextModel

from benchmarks.compare import preload

PERSON: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "email": {"type": "string", "pattern": r"^[a-z]{1,20}@[a-z]{1,20}\.org$"},
        "colours": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
        "married": {"type": "boolean"},
    },
    "required": ["name", "age", "email", "colours", "married"],
    "additionalProperties": False,
}
# More than fits into max_tokens, so that both kinds of output have the same length.
PEOPLE: Json = {"type": "array", "items": PERSON, "minItems": 1000}
ids = count()


def progress(stage: str, done: int, total: int, note: str = "") -> None:
    """Ignore the progress of loading."""


def requests(concurrency: int, max_tokens: int, *, constrained: bool) -> Iterator[ChatRequest]:
    for number in range(concurrency):
        yield ChatRequest(
            id=str(next(ids)),
            model="any",
            messages=[{"role": "user", "content": f"Tell a very long story about {number + 10} people."}],
            sampling=Sampling(temperature=0.7),
            max_tokens=max_tokens,
            constraint=FixedConstraint(JsonValue(PEOPLE)) if constrained else None,
        )


def measure(model: TextModel, concurrency: int, max_tokens: int, *, constrained: bool) -> float:
    """Return the tokens per second from the first token to the last."""
    loop = Loop(model)
    for request in requests(concurrency, max_tokens, constrained=constrained):
        loop.submit(Submit.of(request))
    tokens, begin = 0, 0.0
    while not loop.idle:
        for _, event in loop.step():
            if isinstance(event, Exception):
                raise click.ClickException(str(event))
            if isinstance(event, TextDelta):
                tokens += event.token_count
                begin = begin or time.perf_counter()
    return (tokens - concurrency) / (time.perf_counter() - begin)


def table(name: str, folder: Path, rounds: int, max_tokens: int) -> Iterator[str]:
    model = load_model(LoadContext(ref=name, path=folder, options=LmOptions(prompt_cache_bytes=0), progress=progress))
    for concurrency in (1, 8):
        measure(model, concurrency, 8, constrained=True)
        speeds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(rounds):
            # Each kind is first equally often, in case the machine gets slower or faster.
            for constrained in (False, True) if number % 2 else (True, False):
                speeds[constrained].append(measure(model, concurrency, max_tokens, constrained=constrained))
        ratio = median(constrained / free for free, constrained in zip(speeds[False], speeds[True], strict=True))
        free, constrained_speed = median(speeds[False]), median(speeds[True])
        yield f"| {name} | {concurrency} | {free:.1f} | {constrained_speed:.1f} | {ratio:.2f} |"
    model.close()


@click.command()
@click.option("--rounds", default=8, show_default=True)
@click.option("--max-tokens", default=24, show_default=True)
@click.option("--model", "models", multiple=True, default=("demo:smollm2", "random llama"), show_default=True)
def main(rounds: int, max_tokens: int, models: tuple[str, ...]) -> None:
    """Print a table of tokens per second, unconstrained and constrained."""
    from tests.support.tiny_llama import write_tiny_llama

    click.echo("| model | concurrent requests | unconstrained | constrained | ratio |")
    click.echo("| --- | ---: | ---: | ---: | ---: |")
    with TemporaryDirectory() as scratch:
        for name in models:
            if name == "random llama":
                lines = table(name, write_tiny_llama(Path(scratch)), rounds, max_tokens * 6)
            else:
                source = resolve_source(name)
                folder = Path(name) if source is None else source.fetch(progress)
                lines = table(name, folder, rounds, max_tokens)
            for line in lines:
                click.echo(line)


if __name__ == "__main__":
    blas = preload()
    if blas and "LD_PRELOAD" not in os.environ:
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.structured", *sys.argv[1:]], os.environ | blas)
    main()

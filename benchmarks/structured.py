"""Constrained compared with unconstrained generation: `uv run python -m benchmarks.structured`.

The backend lm runs in one process in the engine's loop, without a server. Each round generates the same number of
tokens unconstrained and with a JSON schema whose shortest text is longer. The table has the median tokens per second of
each, and the median of the rounds' ratios. Prompts are short, the temperature is 0.7.
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
from mlx_host_lm.model import LanguageModel, load_model
from mlx_host_lm.options import LmOptions

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
# Longer than max_tokens, so that both outputs have the same length.
PEOPLE: Json = {"type": "array", "items": PERSON, "minItems": 1000}
ids = count()


def progress(stage: str, done: int, total: int, note: str = "") -> None:
    """Ignore the progress."""


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


def measure(model: LanguageModel, concurrency: int, max_tokens: int, *, constrained: bool) -> float:
    """Tokens per second from the first to the last token."""
    loop = Loop(model)
    for request in requests(concurrency, max_tokens, constrained=constrained):
        loop.submit(Submit.of(request))
    tokens, begin = 0, 0.0
    while not loop.idle:
        for _, output in loop.step():
            if isinstance(output, Exception):
                raise click.ClickException(str(output))
            if isinstance(output, TextDelta):
                tokens += output.tokens
                begin = begin or time.perf_counter()
    return (tokens - concurrency) / (time.perf_counter() - begin)


def table(name: str, folder: Path, rounds: int, max_tokens: int) -> Iterator[str]:
    model = load_model(LoadContext(ref=name, path=folder, options=LmOptions(prompt_cache_bytes=0), progress=progress))
    for concurrency in (1, 8):
        measure(model, concurrency, 8, constrained=True)
        speeds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(rounds):
            # Alternate the order, so that a machine that gets slower or faster favours neither.
            for constrained in (False, True) if number % 2 else (True, False):
                speeds[constrained].append(measure(model, concurrency, max_tokens, constrained=constrained))
        ratio = median(held / free for free, held in zip(speeds[False], speeds[True], strict=True))
        free, held = median(speeds[False]), median(speeds[True])
        yield f"| {name} | {concurrency} | {free:.1f} | {held:.1f} | {ratio:.2f} |"
    model.close()


@click.command()
@click.option("--rounds", default=8, show_default=True)
@click.option("--max-tokens", default=24, show_default=True)
@click.option("--model", "models", multiple=True, default=("demo:smollm2", "random llama"), show_default=True)
def main(rounds: int, max_tokens: int, models: tuple[str, ...]) -> None:
    """Print a table of tokens per second, unconstrained and constrained."""
    from tests.support.tiny_llama import write_tiny_llama

    click.echo("| model | requests at once | free | constrained | ratio |")
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

"""What the prefix cache saves: `uv run python -m benchmarks.prefix`.

Cold and warm: a question after a new prefix of about 1,000 tokens, then another question after the same prefix.
Agents: several concurrent conversations with one long system prompt, with and without the prefix cache.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from itertools import cycle, islice
from statistics import median
from typing import Any

import rich_click as click
import uvloop
from mlx_host._bench.http_client import Target, exchange
from mlx_host._bench.result import Answer, Failure, read_answer
from mlx_host._bench.server import run_command, running

from benchmarks.compare import preload

PREFIX_TOKENS = 1000
AGENTS, TURNS = 3, 2
WORDS = ("keep in mind", "that it is for", "people who like", "to read about", "the world and", "the sea")


def prefix(name: str) -> str:
    """About 1,000 tokens with a unique beginning."""
    return " ".join([f"Note {name}:", *islice(cycle(WORDS), PREFIX_TOKENS // 3)])


async def ask(target: Target, messages: Sequence[dict[str, str]], max_tokens: int) -> tuple[Answer, str]:
    """Stream one greedy completion; return the result and the text."""
    body: dict[str, Any] = {
        "model": "any",
        "messages": list(messages),
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = target.request("POST", "/chat/completions", json.dumps(body).encode())
    recording = await exchange(target, request, clock=time.perf_counter, timeout=600)
    response = read_answer(recording)
    if isinstance(response, Failure):
        raise click.ClickException(response.reason)
    chunks = (
        line.removeprefix("data: ") for line in recording.body.decode().split("\n\n") if line.startswith("data: {")
    )
    choices = (choice for chunk in chunks for choice in json.loads(chunk)["choices"])
    return response, "".join(choice["delta"].get("content") or "" for choice in choices)


async def cold_and_warm(target: Target, rounds: int) -> tuple[float, float, float]:
    """Medians of the time to first token in seconds, cold and warm, and of the ratio warm to cold."""
    pairs = []
    for number in range(rounds):
        asked = prefix(f"cold {number}")
        cold, _ = await ask(target, [{"role": "user", "content": f"{asked}. What is the capital of France?"}], 2)
        warm, _ = await ask(target, [{"role": "user", "content": f"{asked}. Who wrote Hamlet?"}], 2)
        pairs.append((cold.time_to_first_token, warm.time_to_first_token))
    return (
        median(cold for cold, _ in pairs),
        median(warm for _, warm in pairs),
        median(warm / cold for cold, warm in pairs),
    )


async def agents(target: Target, round_: int) -> float:
    """The seconds that several agents with one system prompt take for their turns."""
    system = {"role": "system", "content": prefix(f"agents {round_}")}

    async def agent(number: int) -> None:
        talk = [system]
        for turn in range(TURNS):
            talk = [*talk, {"role": "user", "content": f"Agent {number}, turn {turn}: reply with one word."}]
            _, output = await ask(target, talk, 8)
            talk = [*talk, {"role": "assistant", "content": output}]

    begin = time.perf_counter()
    await asyncio.gather(*(agent(number) for number in range(AGENTS)))
    return time.perf_counter() - begin


async def measure(model: str, rounds: int) -> dict[str, float]:
    """Measure a server with the prefix cache and one without."""
    environment = [f"--env={name}={value}" for name, value in preload().items()]
    options = ["--backend", "lm", *environment]
    async with running(run_command(model, options)) as caching:
        await ask(caching, [{"role": "user", "content": "Hello."}], 2)
        cold, warm, ratio = await cold_and_warm(caching, rounds)
        async with running(run_command(model, [*options, "--prompt-cache-bytes", "0"])) as forgetting:
            await ask(forgetting, [{"role": "user", "content": "Hello."}], 2)
            pairs = [(await agents(caching, number), await agents(forgetting, number)) for number in range(rounds)]
    return {
        "cold": cold,
        "warm": warm,
        "warm_to_cold": ratio,
        "agents_cached": median(cached for cached, _ in pairs),
        "agents_uncached": median(uncached for _, uncached in pairs),
        "agents_ratio": median(cached / uncached for cached, uncached in pairs),
    }


@click.command()
@click.option("--model", default="demo:smollm2", show_default=True)
@click.option("--rounds", default=2, show_default=True)
def main(model: str, rounds: int) -> None:
    """Print a table of what the prefix cache saves."""
    found = uvloop.run(measure(model, rounds))
    click.echo("| | without | with the prompt cache | ratio |")
    click.echo("| --- | ---: | ---: | ---: |")
    click.echo(
        f"| first token behind {PREFIX_TOKENS} tokens | {found['cold']:.2f} s | {found['warm']:.2f} s "
        f"| {found['warm_to_cold']:.3f} |"
    )
    click.echo(
        f"| {AGENTS} agents at once, {TURNS} turns each | {found['agents_uncached']:.1f} s "
        f"| {found['agents_cached']:.1f} s | {found['agents_ratio']:.2f} |"
    )


if __name__ == "__main__":
    main()

"""Measures the prefix cache: `uv run python -m benchmarks.prefix`.

Cold and warm: a question after a prefix of about 1,000 uncached tokens, then another question after the same prefix.
Agents: concurrent conversations with one long system prompt, several turns each, with and without the prefix cache.
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
from mlx_host._bench.http_client import Target, send_request
from mlx_host._bench.result import RequestFailure, RequestResult, parse_response
from mlx_host._bench.server import run_command, run_server

from benchmarks.compare import preload

PREFIX_TOKENS = 1000
AGENTS, TURNS = 3, 2
WORDS = ("keep in mind", "that it is for", "people who like", "to read about", "the world and", "the sea")


def prefix(name: str) -> str:
    """Return about a thousand tokens with a unique beginning."""
    return " ".join([f"Note {name}:", *islice(cycle(WORDS), PREFIX_TOKENS // 3)])


async def ask(target: Target, messages: Sequence[dict[str, str]], max_tokens: int) -> tuple[RequestResult, str]:
    """Stream one greedy completion; return its timing and its text."""
    body: dict[str, Any] = {
        "model": "any",
        "messages": list(messages),
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = target.request("POST", "/chat/completions", json.dumps(body).encode())
    recording = await send_request(target, request, clock=time.perf_counter, timeout=600)
    result = parse_response(recording)
    if isinstance(result, RequestFailure):
        raise click.ClickException(result.reason)
    chunks = (
        line.removeprefix("data: ") for line in recording.body.decode().split("\n\n") if line.startswith("data: {")
    )
    choices = (choice for chunk in chunks for choice in json.loads(chunk)["choices"])
    return result, "".join(choice["delta"].get("content") or "" for choice in choices)


async def cold_and_warm(target: Target, rounds: int) -> tuple[float, float, float]:
    """Return the median TTFT in seconds, cold and warm, and the median ratio of warm to cold."""
    pairs = []
    for number in range(rounds):
        shared = prefix(f"cold {number}")
        cold, _ = await ask(target, [{"role": "user", "content": f"{shared}. What is the capital of France?"}], 2)
        warm, _ = await ask(target, [{"role": "user", "content": f"{shared}. Who wrote Hamlet?"}], 2)
        pairs.append((cold.time_to_first_token, warm.time_to_first_token))
    return (
        median(cold for cold, _ in pairs),
        median(warm for _, warm in pairs),
        median(warm / cold for cold, warm in pairs),
    )


async def agents(target: Target, round_: int) -> float:
    """Return the seconds that AGENTS concurrent conversations with one system prompt take."""
    system = {"role": "system", "content": prefix(f"agents {round_}")}

    async def agent(number: int) -> None:
        messages = [system]
        for turn in range(TURNS):
            messages = [*messages, {"role": "user", "content": f"Agent {number}, turn {turn}: say one word."}]
            _, text = await ask(target, messages, 8)
            messages = [*messages, {"role": "assistant", "content": text}]

    begin = time.perf_counter()
    await asyncio.gather(*(agent(number) for number in range(AGENTS)))
    return time.perf_counter() - begin


async def measure(model: str, rounds: int) -> dict[str, float]:
    """Measure a server with the prefix cache and one without."""
    environment = [f"--env={name}={value}" for name, value in preload().items()]
    options = ["--backend", "lm", *environment]
    async with run_server(run_command(model, options)) as cached:
        await ask(cached, [{"role": "user", "content": "Hello."}], 2)
        cold, warm, ratio = await cold_and_warm(cached, rounds)
        async with run_server(run_command(model, [*options, "--prompt-cache-bytes", "0"])) as uncached:
            await ask(uncached, [{"role": "user", "content": "Hello."}], 2)
            pairs = [(await agents(cached, number), await agents(uncached, number)) for number in range(rounds)]
    return {
        "cold": cold,
        "warm": warm,
        "warm_to_cold": ratio,
        "agents_cached": median(with_cache for with_cache, _ in pairs),
        "agents_uncached": median(without for _, without in pairs),
        "agents_ratio": median(with_cache / without for with_cache, without in pairs),
    }


@click.command()
@click.option("--model", default="demo:smollm2", show_default=True)
@click.option("--rounds", default=2, show_default=True)
def main(model: str, rounds: int) -> None:
    """Print a table with and without the prefix cache."""
    result = uvloop.run(measure(model, rounds))
    click.echo("| | without | with the prefix cache | ratio |")
    click.echo("| --- | ---: | ---: | ---: |")
    click.echo(
        f"| time to first token after {PREFIX_TOKENS:,} tokens | {result['cold']:.2f} s | {result['warm']:.2f} s "
        f"| {result['warm_to_cold']:.3f} |"
    )
    click.echo(
        f"| {AGENTS} concurrent conversations, {TURNS} turns each | {result['agents_uncached']:.1f} s "
        f"| {result['agents_cached']:.1f} s | {result['agents_ratio']:.2f} |"
    )


if __name__ == "__main__":
    main()

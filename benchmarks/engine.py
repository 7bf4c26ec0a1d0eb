"""The upper limit for a server: mlx-lm's BatchGenerator, called directly in a separate process.

Reads one JSON object per line from stdin ({"prompts", "concurrency", "max_tokens"}) and writes one per line to stdout:
the numbers that `mlx-host bench` reports for a server, over the same closed loop of requests.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlx_host._bench.client import ConcurrencyResult
from mlx_host._bench.report import concurrency_json
from mlx_host._bench.result import RequestResult
from mlx_lm.generate import BatchGenerator
from mlx_lm.utils import load


@dataclass
class Running:
    sent: float
    prompt_tokens: int
    arrivals: list[float] = field(default_factory=list)

    def result(self) -> RequestResult:
        return RequestResult(self.sent, self.arrivals[-1], tuple(self.arrivals), self.prompt_tokens, len(self.arrivals))


def measure(
    generator: BatchGenerator, prompts: Sequence[list[int]], concurrency: int, max_tokens: int
) -> ConcurrencyResult:
    """Run all prompts, `concurrency` at a time."""
    waiting = iter(prompts)
    running: dict[int, Running] = {}
    results: list[RequestResult] = []

    def start(count: int) -> None:
        for _, prompt in zip(range(count), waiting, strict=False):
            (uid,) = generator.insert([prompt], max_tokens=[max_tokens])
            running[uid] = Running(time.perf_counter(), len(prompt))

    start(concurrency)
    while running:
        ended = 0
        for response in generator.next_generated():
            request = running[response.uid]
            # The end token has no text, but counts as a completion token.
            request.arrivals.append(time.perf_counter())
            if response.finish_reason is not None:
                results.append(running.pop(response.uid).result())
                ended += 1
        start(ended)
    seconds = max(result.ended for result in results) - min(result.sent for result in results)
    return ConcurrencyResult(concurrency, len(prompts), seconds, tuple(results), ())


def main() -> None:
    network, tokenizer = load(sys.argv[1])
    generator = BatchGenerator(network, stop_tokens=[[token] for token in tokenizer.eos_token_ids])
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        prompts = [
            tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True)
            for prompt in job["prompts"]
        ]
        point = measure(generator, prompts, job["concurrency"], job["max_tokens"])
        print(json.dumps(concurrency_json(point)), flush=True)


if __name__ == "__main__":
    main()

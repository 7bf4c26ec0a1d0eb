"""The limit that a server can come near to: mlx-lm's BatchGenerator, called directly in a process of its own.

Reads one JSON object a line on stdin ({"prompts", "concurrency", "max_tokens"}), writes one a line on stdout: the
numbers that `mlx-host bench` gives for a server, over the same closed loop of requests.
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

    def answer(self) -> RequestResult:
        return RequestResult(self.sent, self.arrivals[-1], tuple(self.arrivals), self.prompt_tokens, len(self.arrivals))


def measure(
    generator: BatchGenerator, prompts: Sequence[list[int]], concurrency: int, max_tokens: int
) -> ConcurrencyResult:
    """Keep `concurrency` of `prompts` in work until all are done."""
    waiting = iter(prompts)
    running: dict[int, Running] = {}
    answers: list[RequestResult] = []

    def start(places: int) -> None:
        for _, prompt in zip(range(places), waiting, strict=False):
            (uid,) = generator.insert([prompt], max_tokens=[max_tokens])
            running[uid] = Running(time.perf_counter(), len(prompt))

    start(concurrency)
    while running:
        ended = 0
        for response in generator.next_generated():
            request = running[response.uid]
            # What ends an answer is not sent to a client as text, but it is counted as a token.
            request.arrivals.append(time.perf_counter())
            if response.finish_reason is not None:
                answers.append(running.pop(response.uid).answer())
                ended += 1
        start(ended)
    seconds = max(answer.ended for answer in answers) - min(answer.sent for answer in answers)
    return ConcurrencyResult(concurrency, len(prompts), seconds, tuple(answers), ())


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

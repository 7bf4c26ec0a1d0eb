"""Puts load on a server: so many requests, so many at a time, each a streamed greedy chat completion."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice

from mlx_host._bench.http_client import Clock, Recording, Target, exchange
from mlx_host._bench.result import Answer, Failure, error_message, read_answer
from mlx_host.errors import UsageError

_TOPICS = ("the sea", "a small town", "the winter", "old trains", "bread", "the moon", "a garden", "the first radio")
_FILLER = (
    "keep",
    "in",
    "mind",
    "that",
    "it",
    "is",
    "for",
    "people",
    "who",
    "like",
    "to",
    "read",
    "about",
    "the",
    "world",
)


@dataclass(frozen=True)
class Workload:
    """What is asked: prompts of about `prompt_tokens` tokens, answers of at most `max_tokens`.

    Each prompt begins in its own way, given by `salt` and its number, so that no prompt cache answers for the model.
    """

    model: str
    max_tokens: int = 128
    prompt_tokens: int = 64
    salt: str = ""

    def prompt(self, number: int) -> str:
        task = f"{self.salt}{number}. Write an essay of 3000 words about {_TOPICS[number % len(_TOPICS)]}."
        # A common English word is about one token in any vocabulary; usage tells what it came to.
        missing = self.prompt_tokens - len(task.split())
        return " ".join([task, *islice(cycle(_FILLER), max(missing, 0))])

    def body(self, number: int, *, max_tokens: int | None = None) -> bytes:
        return json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": self.prompt(number)}],
                "max_tokens": max_tokens or self.max_tokens,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()


@dataclass(frozen=True)
class Point:
    """What came of `requests` at one concurrency; `seconds` run from the first request to the last answer's end."""

    concurrency: int
    requests: int
    seconds: float
    answers: tuple[Answer, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Client:
    """Asks one server. `timeout` (seconds) is for a whole answer."""

    target: Target
    timeout: float = 600.0
    clock: Clock = time.perf_counter

    async def models(self) -> list[str]:
        """The names of the models that the server lists."""
        recording = await self._send(self.target.request("GET", "/models"))
        if not recording.status:
            raise UsageError(
                f"No server answers at {self.target.url} ({recording.failure or 'the connection was closed'}). "
                "Check the address, or leave it out and give --model to have a server started."
            )
        if recording.status != 200:
            raise UsageError(
                f"{self.target.url}/models answers HTTP {recording.status}: {error_message(recording.body)}. "
                "Check that the address is that of an OpenAI-compatible server, and --api-key if it wants one."
            )
        try:
            return [str(model["id"]) for model in json.loads(recording.body)["data"]]
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{self.target.url}/models is not a list of models in OpenAI's format.") from None

    async def probe(self, workload: Workload) -> None:
        """Ask once, uncounted: it warms the server up and finds out whether measuring makes sense."""
        recording = await self._send(self._chat(workload, 0, max_tokens=min(8, workload.max_tokens)))
        answer = read_answer(recording)
        if isinstance(answer, Failure):
            raise UsageError(f"{self.target.url} cannot be measured with model {workload.model!r}: {answer.reason}")

    async def measure(
        self, workload: Workload, concurrency: int, requests: int, *, on_end: Callable[[], None] = lambda: None
    ) -> Point:
        """Keep `concurrency` requests in flight until `requests` have been made, calling `on_end` as each ends."""
        recordings: list[Recording] = []
        # Encoding happens before the clock starts, reading after it has stopped.
        pending = iter([self._chat(workload, number) for number in range(1, requests + 1)])
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, requests)):
                workers.create_task(self._work(pending, recordings, on_end))
        results = [read_answer(recording) for recording in recordings]
        return Point(
            concurrency=concurrency,
            requests=requests,
            seconds=max(r.ended for r in recordings) - min(r.sent for r in recordings),
            answers=tuple(result for result in results if isinstance(result, Answer)),
            failures=tuple(result for result in results if isinstance(result, Failure)),
        )

    async def _work(self, pending: Iterator[bytes], recordings: list[Recording], on_end: Callable[[], None]) -> None:
        for request in pending:
            recordings.append(await self._send(request))
            on_end()

    def _chat(self, workload: Workload, number: int, *, max_tokens: int | None = None) -> bytes:
        return self.target.request("POST", "/chat/completions", workload.body(number, max_tokens=max_tokens))

    async def _send(self, request: bytes) -> Recording:
        return await exchange(self.target, request, clock=self.clock, timeout=self.timeout)

"""Sends streamed, greedy chat completions to a server at a fixed concurrency."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice

from mlx_host._bench.http_client import Clock, RawResponse, Target, send_request
from mlx_host._bench.result import RequestFailure, RequestResult, error_message, parse_response
from mlx_host.errors import UsageError

_TOPICS = ("the sea", "a small town", "the winter", "old trains", "bread", "the moon", "a garden", "the first radio")
_FILLER = "keep in mind that it is for people who like to read about the world"


@dataclass(frozen=True)
class Workload:
    """The requests to send: prompts of about `prompt_tokens` tokens, completions of at most `max_tokens`.

    Each prompt begins with `salt` and its number, so that no two prompts share a cached prefix.
    """

    model: str
    max_tokens: int = 128
    prompt_tokens: int = 64
    salt: str = ""

    def prompt(self, number: int) -> str:
        task = f"{self.salt}{number}. Write an essay of 3000 words about {_TOPICS[number % len(_TOPICS)]}."
        # A common English word is about one token in any vocabulary; the report has the number that the server counted.
        missing = self.prompt_tokens - len(task.split())
        return " ".join([task, *islice(cycle(_FILLER.split()), max(missing, 0))])

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
class ConcurrencyResult:
    """The results of all requests at one concurrency.

    `seconds` is the time from sending the first request to the end of the last response.
    """

    concurrency: int
    requests: int
    seconds: float
    completed: tuple[RequestResult, ...]
    failed: tuple[RequestFailure, ...]


@dataclass(frozen=True)
class Client:
    """A client of one server; `timeout` limits each request, in seconds."""

    target: Target
    timeout: float = 600.0
    clock: Clock = time.perf_counter

    async def models(self) -> list[str]:
        """Return the names of the models that the server lists.

        Raises UsageError if there is no OpenAI-compatible server at the address.
        """
        response = await self._send(self.target.request("GET", "/models"))
        if not response.status:
            raise UsageError(
                f"Cannot connect to {self.target.url} ({response.failure or 'the connection was closed'}). "
                "Check the URL, or omit it and use --model to start a server."
            )
        if response.status != 200:
            raise UsageError(
                f"{self.target.url}/models returned HTTP {response.status}: {error_message(response.body)}. "
                "Check that the URL is that of an OpenAI-compatible server; if it requires a key, use --api-key."
            )
        try:
            return [str(model["id"]) for model in json.loads(response.body)["data"]]
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{self.target.url}/models did not return a list of models in OpenAI's format.") from None

    async def warm_up(self, workload: Workload) -> None:
        """Send one request that is not measured; UsageError if it fails."""
        response = await self._send(self._chat(workload, 0, max_tokens=min(8, workload.max_tokens)))
        result = parse_response(response)
        if isinstance(result, RequestFailure):
            raise UsageError(f"{self.target.url} cannot be measured with model {workload.model!r}: {result.reason}")

    async def measure(
        self, workload: Workload, concurrency: int, requests: int, *, on_end: Callable[[], None] = lambda: None
    ) -> ConcurrencyResult:
        """Send `requests` requests, `concurrency` at a time; `on_end` is called after each of them."""
        responses: list[RawResponse] = []
        # Requests are encoded before the first is sent, and responses are parsed after the last has ended.
        pending = iter([self._chat(workload, number) for number in range(1, requests + 1)])
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, requests)):
                workers.create_task(self._work(pending, responses, on_end))
        results = [parse_response(response) for response in responses]
        return ConcurrencyResult(
            concurrency=concurrency,
            requests=requests,
            seconds=max(r.ended for r in responses) - min(r.sent for r in responses),
            completed=tuple(result for result in results if isinstance(result, RequestResult)),
            failed=tuple(result for result in results if isinstance(result, RequestFailure)),
        )

    async def _work(self, pending: Iterator[bytes], responses: list[RawResponse], on_end: Callable[[], None]) -> None:
        for request in pending:
            responses.append(await self._send(request))
            on_end()

    def _chat(self, workload: Workload, number: int, *, max_tokens: int | None = None) -> bytes:
        return self.target.request("POST", "/chat/completions", workload.body(number, max_tokens=max_tokens))

    async def _send(self, request: bytes) -> RawResponse:
        return await send_request(self.target, request, clock=self.clock, timeout=self.timeout)

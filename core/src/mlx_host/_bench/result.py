"""Parses a recorded stream of chat completion chunks into latencies and token counts, or a failure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mlx_host._bench.http_client import RawResponse


@dataclass(frozen=True, slots=True)
class RequestResult:
    """A completed request.

    Times are those of the RawResponse; token counts are from the server's `usage`. `chunk_times` are the arrival times
    of the chunks with text, reasoning or tool calls.
    """

    sent: float
    ended: float
    chunk_times: tuple[float, ...]
    prompt_tokens: int
    completion_tokens: int

    @property
    def time_to_first_token(self) -> float:
        return self.chunk_times[0] - self.sent

    @property
    def time_per_token(self) -> float | None:
        """The mean time per token after the first (a chunk may hold several); None for a single token."""
        if self.completion_tokens < 2:
            return None
        return (self.chunk_times[-1] - self.chunk_times[0]) / (self.completion_tokens - 1)

    @property
    def chunk_gaps(self) -> list[float]:
        """The times between consecutive chunks."""
        return [after - before for before, after in pairwise(self.chunk_times)]


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """A request without a complete response, and the reason."""

    reason: str


def parse_response(response: RawResponse) -> RequestResult | RequestFailure:
    """Parse a streamed chat completion; an incomplete stream, or one without text or usage, is a failure."""
    if response.status and response.status != 200:
        return RequestFailure(f"HTTP {response.status}: {error_message(response.body)}")
    chunk_times: list[float] = []
    usage: dict[str, Any] | None = None
    complete = False
    for time, data in _events(response):
        if data == b"[DONE]":
            complete = True
            break
        try:
            chunk = json.loads(data)
        except ValueError:
            return RequestFailure(f"a chunk is not JSON: {data[:80].decode(errors='replace')}")
        if chunk.get("error"):
            return RequestFailure(f"error event: {error_message(data)}")
        usage = chunk.get("usage") or usage
        if any(_carries_text(choice["delta"]) for choice in chunk.get("choices", ())):
            chunk_times.append(time)
    if not complete:
        closed = f"the connection was closed after {_count(len(chunk_times), 'chunk')} of text"
        return RequestFailure(response.failure or closed)
    if usage is None:
        return RequestFailure("no usage in the stream: the server ignores stream_options.include_usage")
    if not chunk_times:
        return RequestFailure(f"no text in a completion of {_count(usage['completion_tokens'], 'token')}")
    return RequestResult(
        sent=response.sent,
        ended=response.ended,
        chunk_times=tuple(chunk_times),
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
    )


def error_message(body: bytes) -> str:
    """Return the message of an OpenAI error body, or the beginning of any other body."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace").strip() or "(empty body)"


def _events(response: RawResponse) -> Iterator[tuple[float, bytes]]:
    """Yield the data of each `data:` line, with the arrival time of the piece that completed it."""
    rest = b""
    for time, piece in response.pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield time, line[5:].strip()


def _carries_text(delta: dict[str, Any]) -> bool:
    return any(delta.get(field) for field in ("content", "reasoning_content", "reasoning", "tool_calls"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

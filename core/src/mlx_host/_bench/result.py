"""Reads a recorded stream of chat completion chunks: when tokens came, how many, or what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mlx_host._bench.http_client import Recording


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request; times are on the recording's clock, token counts are the server's own `usage`.

    `arrivals` are the times of the chunks that carry text, reasoning or tool calls.
    """

    sent: float
    ended: float
    arrivals: tuple[float, ...]
    prompt_tokens: int
    completion_tokens: int

    @property
    def time_to_first_token(self) -> float:
        return self.arrivals[0] - self.sent

    @property
    def time_per_token(self) -> float | None:
        """The mean over the tokens after the first, however many of them a chunk held; None for a single token."""
        if self.completion_tokens < 2:
            return None
        return (self.arrivals[-1] - self.arrivals[0]) / (self.completion_tokens - 1)

    @property
    def gaps(self) -> list[float]:
        """The waits between chunks, which are what a reader sees."""
        return [after - before for before, after in pairwise(self.arrivals)]


@dataclass(frozen=True, slots=True)
class Failure:
    """One request without a whole answer, and why."""

    reason: str


def read_answer(recording: Recording) -> Answer | Failure:
    """Read a streamed chat completion; anything short of a whole one with text and usage is a failure."""
    if recording.status and recording.status != 200:
        return Failure(f"HTTP {recording.status}: {error_message(recording.body)}")
    arrivals: list[float] = []
    usage: dict[str, Any] | None = None
    complete = False
    for time, data in _events(recording):
        if data == b"[DONE]":
            complete = True
            break
        try:
            chunk = json.loads(data)
        except ValueError:
            return Failure(f"a chunk is not JSON: {data[:80].decode(errors='replace')}")
        if chunk.get("error"):
            return Failure(f"error event: {error_message(data)}")
        usage = chunk.get("usage") or usage
        if any(_carries_text(choice["delta"]) for choice in chunk.get("choices", ())):
            arrivals.append(time)
    if not complete:
        return Failure(recording.failure or f"the connection was cut after {_count(len(arrivals), 'chunk')} of text")
    if usage is None:
        return Failure("the server sent no usage (it ignores stream_options.include_usage), so its tokens are unknown")
    if not arrivals:
        return Failure(f"no text in an answer of {_count(usage['completion_tokens'], 'token')}")
    return Answer(
        sent=recording.sent,
        ended=recording.ended,
        arrivals=tuple(arrivals),
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
    )


def error_message(body: bytes) -> str:
    """The message in OpenAI's error body, or the start of whatever was sent instead."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace").strip() or "(empty body)"


def _events(recording: Recording) -> Iterator[tuple[float, bytes]]:
    """The `data:` lines, each with the arrival of the piece that completed it."""
    rest = b""
    for time, piece in recording.pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield time, line[5:].strip()


def _carries_text(delta: dict[str, Any]) -> bool:
    return any(delta.get(field) for field in ("content", "reasoning_content", "reasoning", "tool_calls"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

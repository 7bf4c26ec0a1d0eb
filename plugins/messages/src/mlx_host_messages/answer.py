"""Anthropic's message and its events, out of an answer's events.

Answer grows the message and says each step as an event; an answer that is not streamed is the message at the end. Its
blocks begin and end one after another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mlx_host._host import ChoiceDone, Delta, Done
from mlx_host._host.output_processor import AnswerEvent, Shown
from mlx_host.events import Started
from mlx_host.parsing import Content, Reasoning, ToolCall
from mlx_host.requests import ChatRequest

Event = dict[str, Any]

# Clients send thinking back only if it is signed. Nobody checks it here.
SIGNATURE = "mlx-host"


def usage(input_tokens: int, cached_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Anthropic's usage object.

    `input_tokens` is the whole prompt, as count_tokens and the other dialects tell it. Anthropic counts what comes from
    its cache apart and adds it up again, so what came from ours is told under a name of our own.
    """
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cached_input_tokens": cached_tokens,
        "output_tokens": output_tokens,
    }


class Answer:
    """A message as it grows; `message` is the object as it stands."""

    def __init__(self, request: ChatRequest, model: str) -> None:
        self.message: dict[str, Any] = {
            "id": request.id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage(0, 0, 0),
        }
        self.warning: str | None = None
        self._max_tokens = request.max_tokens
        self._done = ChoiceDone(0, "stop")
        self._open: dict[str, Any] | None = None

    def take(self, batch: list[AnswerEvent]) -> list[Event]:
        """Grow by a batch and say how."""
        return [event for each in batch for event in self._take(each)]

    def _take(self, event: AnswerEvent) -> Iterator[Event]:
        match event:
            case Started():
                self.message["usage"] = usage(event.prompt_tokens, event.cached_tokens, 0)
                yield {"type": "message_start", "message": {**self.message, "content": []}}
            case Delta(_, parts):
                for part in parts:
                    yield from self._add(part)
            case ChoiceDone():
                self._done = event
            case Done():
                yield from self._finish(event)

    def _add(self, part: Shown) -> Iterator[Event]:
        match part:
            case Content(text):
                yield from self._begin({"type": "text", "text": ""})
                yield self._say("text", {"type": "text_delta", "text": text}, text)
            case Reasoning(text):
                yield from self._begin({"type": "thinking", "thinking": "", "signature": ""})
                yield self._say("thinking", {"type": "thinking_delta", "thinking": text}, text)
            case ToolCall(name, arguments, _, id):
                yield from self._end()
                yield from self._begin({"type": "tool_use", "id": id, "name": name, "input": {}})
                self._block["input"] = json.loads(arguments)
                yield self._delta({"type": "input_json_delta", "partial_json": arguments})
                yield from self._end()

    @property
    def _block(self) -> dict[str, Any]:
        block: dict[str, Any] = self.message["content"][-1]
        return block

    def _begin(self, block: dict[str, Any]) -> Iterator[Event]:
        """Begin a block, unless one of its kind is open."""
        if self._open is not None and self._open["type"] == block["type"]:
            return
        yield from self._end()
        self.message["content"].append(block)
        self._open = block
        yield {"type": "content_block_start", "index": self._index, "content_block": dict(block)}

    @property
    def _index(self) -> int:
        return len(self.message["content"]) - 1

    def _say(self, key: str, delta: dict[str, Any], text: str) -> Event:
        self._block[key] += text
        return self._delta(delta)

    def _delta(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _end(self) -> Iterator[Event]:
        if self._open is None:
            return
        if self._open["type"] == "thinking":
            self._open["signature"] = SIGNATURE
            yield self._delta({"type": "signature_delta", "signature": SIGNATURE})
        self._open = None
        yield {"type": "content_block_stop", "index": self._index}

    def _finish(self, done: Done) -> Iterator[Event]:
        if not self.message["content"]:
            yield from self._begin({"type": "text", "text": ""})
        yield from self._end()
        counted = usage(done.prompt_tokens, done.cached_tokens, done.completion_tokens)
        counted["output_tokens_details"] = {"thinking_tokens": done.reasoning_tokens}
        ending = {"stop_reason": self._stop_reason(done), "stop_sequence": self._stop_sequence()}
        self.message |= {**ending, "usage": counted}
        self.warning = done.warning
        yield {"type": "message_delta", "delta": ending, "usage": counted}
        yield {"type": "message_stop"}

    def _stop_reason(self, done: Done) -> str:
        match self._done.reason:
            case "tool_calls":
                return "tool_use"
            case "length":
                full = self._max_tokens is not None and done.completion_tokens < self._max_tokens
                return "model_context_window_exceeded" if full else "max_tokens"
            case "stop":
                return "end_turn" if self._done.stop is None else "stop_sequence"

    def _stop_sequence(self) -> str | None:
        return self._done.stop if self._done.reason == "stop" else None

"""Builds Anthropic's message object and stream events from the events of a chat reply.

States of a message:

| state      | action      | next       | events                                                        |
| ---------- | ----------- | ---------- | ------------------------------------------------------------- |
| PENDING    | start       | IDLE       | message_start                                                 |
| IDLE       | open_block  | BLOCK_OPEN | content_block_start                                           |
| BLOCK_OPEN | add_delta   | BLOCK_OPEN | content_block_delta                                           |
| BLOCK_OPEN | close_block | IDLE       | content_block_stop; before it, for thinking, the signature as |
|            |             |            | a content_block_delta                                         |
| IDLE       | end         | FINISHED   | message_delta, message_stop                                   |

Text and thinking open a block of their type unless one is open, after closing an open block of another type. A tool
call opens and closes a block at once; if its arguments are streamed, its first delta opens the block and its last one
closes it. The end of the output closes an open block. An error ends the stream in any state
with an `error` event. Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Literal, Self

from mlx_host.api import ChatEvent, ChoiceCompleted, ChoiceDelta, OutputCompleted, Reply, VisiblePart
from mlx_host.events import Progress, Started
from mlx_host.parsing import Content, Reasoning, ToolCall, ToolCallDelta
from mlx_host.requests import ChatRequest

Event = dict[str, Any]
Action = Literal["start", "open_block", "add_delta", "close_block", "end"]

# Clients return thinking blocks only if they have a signature. This server does not verify it.
SIGNATURE = "mlx-host"


class State(Enum):
    """States of a message; see the table at the top of this module."""

    PENDING = auto()
    IDLE = auto()
    BLOCK_OPEN = auto()
    FINISHED = auto()


NEXT_STATE: Mapping[tuple[State, Action], State] = {
    (State.PENDING, "start"): State.IDLE,
    (State.IDLE, "open_block"): State.BLOCK_OPEN,
    (State.BLOCK_OPEN, "add_delta"): State.BLOCK_OPEN,
    (State.BLOCK_OPEN, "close_block"): State.IDLE,
    (State.IDLE, "end"): State.FINISHED,
}


def usage_json(prompt_tokens: int, cached_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Return Anthropic's usage object: `input_tokens` excludes cached tokens, and clients add both."""
    return {
        "input_tokens": prompt_tokens - cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached_tokens,
        "output_tokens": output_tokens,
    }


class AnthropicMessageBuilder:
    """Builds a message and its stream events; `message` is the current message object.

    Events refer to parts of `message`, so serialize them before the next call. Raises KeyError for a transition that is
    not in NEXT_STATE.

    Args:
        message_id: The id of the message.
        model: The name of the model.
        max_tokens: The limit of the prepared request.
        shows_thinking: Whether thinking blocks have text; without it, they only have a signature.
    """

    def __init__(self, message_id: str, model: str, max_tokens: int | None, *, shows_thinking: bool = True) -> None:
        self.message: dict[str, Any] = {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_json(0, 0, 0),
        }
        self._max_tokens = max_tokens
        self._shows_thinking = shows_thinking
        self._state = State.PENDING
        self._choice = ChoiceCompleted(0, "stop")
        self._output = OutputCompleted(0, 0, 0)
        self._texts: list[str] = []

    @classmethod
    def of(cls, reply: Reply[ChatEvent], *, shows_thinking: bool = True) -> Self:
        """Return a builder for the message of a chat reply."""
        request = reply.request
        assert isinstance(request, ChatRequest)
        return cls(request.id, reply.model.name, request.max_tokens, shows_thinking=shows_thinking)

    def add(self, events: Sequence[ChatEvent]) -> list[Event]:
        """Add a batch of chat events and return the stream events."""
        return [output for event in events for output in self._add(event)]

    def add_block(self, block: dict[str, Any]) -> list[Event]:
        """Add a complete content block and return its stream events."""
        return [*self._close_block(), *self._open_block(block), *self._close_block()]

    def complete(self) -> list[Event]:
        """End the message after the last batch and return the remaining stream events."""
        return list(self._complete())

    def _transition(self, action: Action) -> None:
        self._state = NEXT_STATE[self._state, action]

    def _add(self, event: ChatEvent) -> Iterator[Event]:
        match event:
            case Started():
                self._transition("start")
                self.message["usage"] = usage_json(event.prompt_tokens, event.cached_tokens, 0)
                yield {"type": "message_start", "message": {**self.message, "content": []}}
            case ChoiceDelta(_, parts):
                for part in parts:
                    yield from self._add_part(part)
            case ChoiceCompleted():
                self._choice = event
            case OutputCompleted():
                self._output = event
            case Progress():
                pass

    def _add_part(self, part: VisiblePart) -> Iterator[Event]:
        match part:
            case Content(text):
                yield from self._open_block({"type": "text", "text": ""})
                yield self._add_text(text, {"type": "text_delta", "text": text})
            case Reasoning(text):
                yield from self._open_block({"type": "thinking", "thinking": "", "signature": ""})
                if self._shows_thinking:
                    yield self._add_text(text, {"type": "thinking_delta", "thinking": text})
            case ToolCall(name, arguments, _, call_id):
                yield from self._close_block()
                yield from self._open_block({"type": "tool_use", "id": call_id, "name": name, "input": {}})
                self._block["input"] = json.loads(arguments)
                yield self._delta({"type": "input_json_delta", "partial_json": arguments})
                yield from self._close_block()
            case ToolCallDelta(arguments, name, call_id, state):
                # Only streams have deltas, and nothing in a stream contains the input.
                if name:
                    yield from self._close_block()
                    yield from self._open_block({"type": "tool_use", "id": call_id, "name": name, "input": {}})
                if arguments:
                    yield self._delta({"type": "input_json_delta", "partial_json": arguments})
                if state != "in_progress":
                    yield from self._close_block()

    @property
    def _block(self) -> dict[str, Any]:
        block: dict[str, Any] = self.message["content"][-1]
        return block

    def _open_block(self, block: dict[str, Any]) -> Iterator[Event]:
        """Open a block, unless a block of this type is open."""
        if self._state is State.BLOCK_OPEN and self._block["type"] == block["type"]:
            return
        yield from self._close_block()
        self._transition("open_block")
        self.message["content"].append(block)
        self._texts = []
        yield {"type": "content_block_start", "index": self._index, "content_block": dict(block)}

    @property
    def _index(self) -> int:
        return len(self.message["content"]) - 1

    def _add_text(self, text: str, delta: dict[str, Any]) -> Event:
        self._texts.append(text)
        return self._delta(delta)

    def _delta(self, delta: dict[str, Any]) -> Event:
        self._transition("add_delta")
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _close_block(self) -> Iterator[Event]:
        if self._state is not State.BLOCK_OPEN:
            return
        block = self._block
        if block["type"] in ("text", "thinking"):
            block[block["type"]] = "".join(self._texts)
        if block["type"] == "thinking":
            block["signature"] = SIGNATURE
            yield self._delta({"type": "signature_delta", "signature": SIGNATURE})
        self._transition("close_block")
        yield {"type": "content_block_stop", "index": self._index}

    def _complete(self) -> Iterator[Event]:
        if not self.message["content"]:
            yield from self._open_block({"type": "text", "text": ""})
        yield from self._close_block()
        self._transition("end")
        output = self._output
        usage = usage_json(output.prompt_tokens, output.cached_tokens, output.completion_tokens)
        usage["output_tokens_details"] = {"thinking_tokens": output.reasoning_tokens}
        delta = {"stop_reason": self._stop_reason(), "stop_sequence": self._stop_sequence()}
        self.message |= {**delta, "usage": usage}
        yield {"type": "message_delta", "delta": delta, "usage": usage}
        yield {"type": "message_stop"}

    def _stop_reason(self) -> str:
        match self._choice.reason:
            case "tool_calls":
                return "tool_use"
            case "length":
                is_full = self._max_tokens is not None and self._output.completion_tokens < self._max_tokens
                return "model_context_window_exceeded" if is_full else "max_tokens"
            case "stop":
                return "end_turn" if self._choice.stop is None else "stop_sequence"

    def _stop_sequence(self) -> str | None:
        return self._choice.stop if self._choice.reason == "stop" else None

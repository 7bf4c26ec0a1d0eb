"""The events of a chat reply, produced from a model's events by its parsers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlx_host.events import Logprobs, Progress, Started
from mlx_host.parsing import Content, Reasoning, ToolCall, ToolCallDelta

FinishReason = Literal["stop", "length", "tool_calls"]
VisiblePart = Content | Reasoning | ToolCall | ToolCallDelta


@dataclass(frozen=True, slots=True)
class ChoiceDelta:
    """New output of a choice: adjacent parts are of different types, except for calls, and tool calls have ids.

    There are ToolCallDelta parts only if the request has `stream_tool_arguments`; the deltas of a call are consecutive.
    `logprobs` are those of the content. A delta that has any has at most one part, the content.
    """

    choice: int
    parts: list[VisiblePart]
    logprobs: tuple[Logprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class ChoiceCompleted:
    """A choice is complete; `stop` is the stop string that ended it, if one did."""

    choice: int
    reason: FinishReason
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class OutputCompleted:
    """All choices are complete. Token counts are totals; `completion_tokens` includes `reasoning_tokens`."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0


ChatEvent = Started | Progress | ChoiceDelta | ChoiceCompleted | OutputCompleted

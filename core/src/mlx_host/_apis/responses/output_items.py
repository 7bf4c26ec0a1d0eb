"""The output items of a response, and the events that describe each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from mlx_host._apis.responses.items import Item, new_id
from mlx_host.api.openai_format import logprobs_json
from mlx_host.events import Logprobs
from mlx_host.parsing import ToolCall

Event = dict[str, Any]
ItemStatus = Literal["completed", "incomplete"]


class TextItem(ABC):
    """Builds an item with one text part, and its events."""

    prefix: str
    event: str

    def __init__(self, output_index: int) -> None:
        self.item = self.new(new_id(self.prefix))
        self._position = {"output_index": output_index}
        self._part_position = {"item_id": self.item["id"], "output_index": output_index, "content_index": 0}
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    @abstractmethod
    def new(self, id: str) -> Item:
        """Return the item before its part is added."""

    @abstractmethod
    def part(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the part."""

    def extra(self, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the additional fields of the text events."""
        return {}

    def added(self) -> Iterator[Event]:
        """Yield the events for the new item."""
        yield {"type": "response.output_item.added", **self._position, "item": {**self.item, "content": []}}
        yield {"type": "response.content_part.added", **self._part_position, "part": self.part("", [])}

    def add(self, text: str, logprobs: Sequence[Logprobs]) -> Event:
        """Append text and return its delta event."""
        entries = logprobs_json(tuple(logprobs))["content"] if logprobs else []
        self._texts.append(text)
        self._logprobs += entries
        return {"type": f"response.{self.event}.delta", **self._part_position, "delta": text, **self.extra(entries)}

    def done(self, status: ItemStatus) -> Iterator[Event]:
        """Complete the item and yield its last events."""
        text = "".join(self._texts)
        part = self.part(text, self._logprobs)
        self.item["content"].append(part)
        self.item["status"] = status
        extra = self.extra(self._logprobs)
        yield {"type": f"response.{self.event}.done", **self._part_position, "text": text, **extra}
        yield {"type": "response.content_part.done", **self._part_position, "part": part}
        yield {"type": "response.output_item.done", **self._position, "item": self.item}


class MessageItem(TextItem):
    """A message of the assistant."""

    prefix = "msg"
    event = "output_text"

    def new(self, id: str) -> Item:
        return {"type": "message", "id": id, "role": "assistant", "content": [], "status": "in_progress"}

    def part(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def extra(self, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {"logprobs": logprobs}


class ReasoningItem(TextItem):
    """The model's reasoning."""

    prefix = "rs"
    event = "reasoning_text"

    def new(self, id: str) -> Item:
        return {"type": "reasoning", "id": id, "summary": [], "content": [], "status": "in_progress"}

    def part(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": text}


def function_call_item(call: ToolCall) -> Item:
    """Return the item of a complete function call."""
    return {
        "type": "function_call",
        "id": new_id("fc"),
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": "completed",
    }


def function_call_events(item: Item, output_index: int) -> Iterator[Event]:
    """Yield all events of a function call."""
    position = {"output_index": output_index}
    item_position = {"item_id": item["id"], **position}
    added = {**item, "arguments": "", "status": "in_progress"}
    yield {"type": "response.output_item.added", **position, "item": added}
    yield {"type": "response.function_call_arguments.delta", **item_position, "delta": item["arguments"]}
    done = {"name": item["name"], "arguments": item["arguments"]}
    yield {"type": "response.function_call_arguments.done", **item_position, **done}
    yield {"type": "response.output_item.done", **position, "item": item}

"""The output items of a response, and the events that describe each of them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from mlx_host._apis.responses import opaque
from mlx_host._apis.responses.items import Item, new_id
from mlx_host._apis.responses.tools import ToolOrigin
from mlx_host.api.custom_tools import custom_input
from mlx_host.api.openai_format import logprobs_json
from mlx_host.events import Logprobs
from mlx_host.parsing.json_fragments import completion

Event = dict[str, Any]
ItemStatus = Literal["completed", "incomplete"]
# The field that is streamed, and the name of its events, by the type of the item.
CALL_EVENTS = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
}


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


class EncodedReasoningItem(ReasoningItem):
    """The model's reasoning, also as opaque text, which some clients send back instead of the reasoning."""

    def done(self, status: ItemStatus) -> Iterator[Event]:
        self.item["encrypted_content"] = opaque.encode("".join(self._texts))
        return super().done(status)


class CallItem:
    """Builds the item of a call to the tool `origin`, and its events.

    The arguments of a function are streamed as they arrive. The input of a custom tool is one member of them, and is
    sent when they are complete.
    """

    def __init__(self, output_index: int, origin: ToolOrigin, call_id: str | None) -> None:
        self._kind = origin.kind
        namespace = {} if origin.namespace is None else {"namespace": origin.namespace}
        fields: dict[str, Any]
        match origin.kind:
            case "custom":
                type, prefix = "custom_tool_call", "ctc"
                fields = {"name": origin.name, "input": "", **namespace}
            case "tool_search":
                type, prefix = "tool_search_call", "tsc"
                fields = {"execution": "client", "arguments": {}}
            case "function":
                type, prefix = "function_call", "fc"
                fields = {"name": origin.name, "arguments": "", **namespace}
        self.item: Item = {"type": type, "id": new_id(prefix), "call_id": call_id, **fields, "status": "in_progress"}
        self._position = {"output_index": output_index}
        self._item_position = {"item_id": self.item["id"], **self._position}
        self._fragments: list[str] = []

    def added(self) -> Event:
        """Return the event for the new item."""
        return {"type": "response.output_item.added", **self._position, "item": dict(self.item)}

    def add(self, fragment: str) -> Iterator[Event]:
        """Append a fragment of the arguments and yield its delta event, if it has one."""
        self._fragments.append(fragment)
        if self._kind == "function":
            yield {"type": "response.function_call_arguments.delta", **self._item_position, "delta": fragment}

    def done(self, status: ItemStatus) -> Iterator[Event]:
        """Complete the item and yield its last events."""
        arguments = "".join(self._fragments)
        if status == "incomplete" and self._kind != "function":
            arguments += completion(arguments)
        self.item["status"] = status
        field, event = CALL_EVENTS.get(self.item["type"], (None, None))
        match self._kind:
            case "custom":
                self.item["input"] = custom_input(arguments)
                yield {"type": f"response.{event}.delta", **self._item_position, "delta": self.item["input"]}
            case "tool_search":
                self.item["arguments"] = _json_object(arguments)
            case "function":
                self.item["arguments"] = arguments
        if field is not None:
            # Only the event of a function call has a name.
            done = {key: self.item[key] for key in ("name", field) if key != "name" or self._kind == "function"}
            yield {"type": f"response.{event}.done", **self._item_position, **done}
        yield {"type": "response.output_item.done", **self._position, "item": self.item}


def _json_object(arguments: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"query": arguments}

"""Converts normalized items to chat messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlx_host._apis.responses.items import Item, chat_part


def to_messages(instructions: str | None, items: Iterable[Item]) -> list[dict[str, Any]]:
    """Convert normalized items to chat messages."""
    builder = ChatMessageBuilder()
    if instructions:
        builder.add_system(instructions)
    for item in items:
        builder.add(item)
    return builder.build()


class ChatMessageBuilder:
    """Converts normalized items to chat messages.

    Consecutive reasoning, text and function calls of the assistant become one message. So do the instructions and the
    system and developer messages directly after them, because many chat templates accept only one system message.
    Their texts are joined once, in `build`.
    """

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        # The assistant message that following items belong to.
        self._turn: dict[str, Any] | None = None
        self._system_texts: list[str] = []
        self._turn_texts: list[str] = []

    def add(self, item: Item) -> None:
        """Add a normalized item."""
        match item["type"]:
            case "reasoning":
                text = "".join([part["text"] for part in item["content"] or item["summary"]])
                if text:
                    self._assistant(unless=("reasoning_content", "content", "tool_calls"))["reasoning_content"] = text
            case "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                call = {"id": item["call_id"], "type": "function", "function": function}
                self._assistant(unless=()).setdefault("tool_calls", []).append(call)
            case "function_call_output":
                self._append({"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"])})
            case "message" if item["role"] == "assistant":
                self._add_output(_content(item["content"]))
            case "message" if item["role"] in ("system", "developer"):
                self.add_system(_content(item["content"]))
            case "message":
                self._append({"role": item["role"], "content": _content(item["content"])})

    def add_system(self, content: Any) -> None:
        """Add instructions, or the content of a system or developer message."""
        texts = self._system_texts
        if isinstance(content, str) and len(self._messages) == (1 if texts else 0):
            texts.append(content)
            if len(texts) > 1:
                return
        self._append({"role": "system", "content": content})

    def build(self) -> list[dict[str, Any]]:
        """Return the messages."""
        self._end_turn()
        if self._system_texts:
            self._messages[0]["content"] = "\n\n".join(self._system_texts)
        return self._messages

    def _add_output(self, content: Any) -> None:
        turn = self._turn
        is_text = isinstance(content, str)
        if turn is not None and turn.get("tool_calls") and is_text and (self._turn_texts or not turn["content"]):
            # A chat message cannot represent text between two calls.
            self._turn_texts.append(content)
        else:
            self._assistant(unless=("content", "tool_calls"))["content"] = content
            self._turn_texts = [content] if is_text else []

    def _assistant(self, unless: tuple[str, ...]) -> dict[str, Any]:
        """Return the assistant's current message, or a new one if it already has one of the fields `unless`."""
        if self._turn is None or any(self._turn.get(key) for key in unless):
            self._append({"role": "assistant", "content": None})
            self._turn = self._messages[-1]
        return self._turn

    def _append(self, message: dict[str, Any]) -> None:
        self._end_turn()
        self._messages.append(message)

    def _end_turn(self) -> None:
        if self._turn is not None and self._turn_texts:
            self._turn["content"] = "".join(self._turn_texts)
        self._turn = None
        self._turn_texts = []


def _content(content: str | list[Item]) -> Any:
    if isinstance(content, str):
        return content
    parts = [chat_part(part, "input") for part in content]
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts

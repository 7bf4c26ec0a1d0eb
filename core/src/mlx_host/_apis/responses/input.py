"""The items of POST /v1/responses: brought into one shape, in which they are kept, and told as chat messages.

A client may send an easy message without a type, the SDK's own output items with all their null fields, or references
to items that this server keeps. In the one shape each item has a type and an id, and content is a list of parts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mlx_host.errors import InvalidRequest

Item = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
KINDS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
TEXT_PARTS = ("input_text", "output_text", "text")


class ItemNotFound(InvalidRequest):
    """An item that was referred to is not kept here."""

    status = 404
    code = "item_not_found"


def new_id(prefix: str) -> str:
    """Make an id as OpenAI writes them."""
    return f"{prefix}_{uuid.uuid4().hex}"


def read_items(given: str | Sequence[Item] | None, find: Callable[[str], Item | None]) -> list[Item]:
    """Bring input into the one shape; `find` gives the item of an id. InvalidRequest says which item is wrong."""
    if given is None:
        return []
    if isinstance(given, str):
        return [_message({"role": "user", "content": given}, "input")]
    return [_item(item, f"input[{number}]", find) for number, item in enumerate(given)]


def _item(item: Item, where: str, find: Callable[[str], Item | None]) -> Item:
    match item.get("type"):
        case "message" | None:
            return _message(item, where)
        case "function_call":
            call = {key: _string(item, key, where) for key in ("call_id", "name", "arguments")}
            return _of("function_call", "fc", item) | call
        case "function_call_output":
            output = item.get("output")
            if not isinstance(output, str):
                output = _parts(output, f"{where}.output")
            return _of("function_call_output", "fco", item) | {
                "call_id": _string(item, "call_id", where),
                "output": output,
            }
        case "reasoning":
            return {
                "type": "reasoning",
                "id": _id(item, "rs"),
                "summary": _texts(item.get("summary"), f"{where}.summary"),
                "content": _texts(item.get("content"), f"{where}.content"),
            }
        case "item_reference":
            id = _string(item, "id", where)
            if (found := find(id)) is None:
                raise ItemNotFound(
                    f"{where}: no item with id {id!r} is kept here; send the item itself.", param="input"
                )
            return found
        case kind:
            raise InvalidRequest(
                f"{where} is of type {kind!r}, which is not supported by this server; there is: {', '.join(KINDS)}.",
                param="input",
            )


def _of(kind: str, prefix: str, item: Item) -> Item:
    return {"type": kind, "id": _id(item, prefix), "status": "completed"}


def _id(item: Item, prefix: str) -> str:
    given = item.get("id")
    return given if isinstance(given, str) and given else new_id(prefix)


def _message(item: Item, where: str) -> Item:
    role = item.get("role")
    if role not in ROLES:
        raise InvalidRequest(f"{where}.role must be one of {', '.join(ROLES)}, got {role!r}.", param="input")
    content = item.get("content")
    if isinstance(content, str):
        content = [{"type": "input_text", "text": content}]
    parts = _parts(content, f"{where}.content")
    if role == "assistant":
        parts = [_answered(part) for part in parts]
    return _of("message", "msg", item) | {"role": role, "content": parts}


def _answered(part: Item) -> Item:
    if part["type"] not in TEXT_PARTS:
        return part
    return {"type": "output_text", "text": part["text"], "annotations": [], "logprobs": []}


def _parts(parts: Any, where: str) -> list[Item]:
    if not isinstance(parts, list):
        raise InvalidRequest(f"{where} must be a string or a list of parts.", param="input")
    for number, part in enumerate(parts):
        _message_part(part, f"{where}[{number}]")
    return parts


def _message_part(part: Any, where: str) -> Item:
    """The part as a part of a chat message."""
    kind = part.get("type") if isinstance(part, dict) else None
    match kind:
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": _string(part, "text", where)}
        case "refusal":
            return {"type": "refusal", "refusal": _string(part, "refusal", where)}
        case "input_image":
            if not isinstance(part.get("image_url"), str):
                raise InvalidRequest(f"{where}.image_url must be a string; file ids are not known here.", param="input")
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
        case "input_file":
            return {"type": "file", "file": {key: value for key, value in part.items() if key != "type" and value}}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise InvalidRequest(f"{where} is no part of a message: its type is {kind!r}.", param="input")


def _texts(parts: Any, where: str) -> list[Item]:
    if parts is None:
        return []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise InvalidRequest(f"{where} must be a list of parts.", param="input")
    return [
        {"type": part.get("type"), "text": _string(part, "text", f"{where}[{number}]")}
        for number, part in enumerate(parts)
    ]


def _string(item: Mapping[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{key} must be a string, got {value!r}.", param="input")
    return value


def to_messages(instructions: str | None, items: Iterable[Item]) -> list[dict[str, Any]]:
    """Tell items in the one shape as chat messages; what the model said in one turn is one message."""
    turns = Turns()
    if instructions:
        turns.add_system(instructions)
    for item in items:
        turns.add(item)
    return turns.messages


class Turns:
    """Chat messages as they grow: reasoning, text and calls that follow each other are one message."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._turn: dict[str, Any] | None = None

    def add(self, item: Item) -> None:
        match item["type"]:
            case "reasoning":
                text = "".join(part["text"] for part in item["content"] or item["summary"])
                if text:
                    self._answer(unless=("reasoning_content", "content", "tool_calls"))["reasoning_content"] = text
            case "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                call = {"id": item["call_id"], "type": "function", "function": function}
                self._answer(unless=()).setdefault("tool_calls", []).append(call)
            case "function_call_output":
                self._say({"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"])})
            case "message" if item["role"] == "assistant":
                self._add_answered(_content(item["content"]))
            case "message" if item["role"] in ("system", "developer"):
                self.add_system(_content(item["content"]))
            case "message":
                self._say({"role": item["role"], "content": _content(item["content"])})

    def add_system(self, content: Any) -> None:
        """Instructions and what developers say right after them are one message: many templates take no second."""
        said = self.messages
        if len(said) == 1 and said[0]["role"] == "system" and all(map(_is_text, (said[0]["content"], content))):
            said[0]["content"] += f"\n\n{content}"
        else:
            self._say({"role": "system", "content": content})

    def _add_answered(self, content: Any) -> None:
        turn = self._turn
        if turn is not None and turn.get("tool_calls") and _is_text(turn["content"] or "") and _is_text(content):
            # What was said between two calls cannot stand between them in a chat message.
            turn["content"] = (turn["content"] or "") + content
        else:
            self._answer(unless=("content", "tool_calls"))["content"] = content

    def _answer(self, unless: tuple[str, ...]) -> dict[str, Any]:
        """The assistant's message that is being told; a new one if it has one of these already."""
        if self._turn is None or any(self._turn.get(key) for key in unless):
            self._say({"role": "assistant", "content": None})
            self._turn = self.messages[-1]
        return self._turn

    def _say(self, message: dict[str, Any]) -> None:
        self._turn = None
        self.messages.append(message)


def _is_text(content: Any) -> bool:
    return isinstance(content, str)


def _content(content: str | list[Item]) -> Any:
    if isinstance(content, str):
        return content
    parts = [_message_part(part, "input") for part in content]
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts

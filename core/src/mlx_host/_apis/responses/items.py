"""The input items of POST /v1/responses: normalized to one shape, in which they are stored.

A client may send a message without a type, the SDK's output items with all their null fields, or references to stored
items. A normalized item has a type and an id, and its content is a list of parts.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from mlx_host.api.ignored_fields import ByType, KnownFields
from mlx_host.errors import InvalidRequestError

Item = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
ITEM_TYPES = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
TEXT_PART_TYPES = ("input_text", "output_text", "text")
# All output items of a response have this status.
_COMPLETED = {"status": "completed"}
_TEXT = KnownFields("type", "text")
PART_FIELDS = ByType(
    {
        **dict.fromkeys(TEXT_PART_TYPES, _TEXT),
        "refusal": KnownFields("type", "refusal"),
        "input_image": KnownFields("type", "image_url", "detail"),
        "input_audio": KnownFields("type", input_audio=KnownFields("data", "format")),
    }
)
ITEM_FIELDS = ByType(
    {
        "message": KnownFields("type", "id", "role", content=PART_FIELDS, unset=_COMPLETED),
        "function_call": KnownFields("type", "id", "call_id", "name", "arguments", unset=_COMPLETED),
        "function_call_output": KnownFields("type", "id", "call_id", output=PART_FIELDS, unset=_COMPLETED),
        "reasoning": KnownFields("type", "id", summary=_TEXT, content=_TEXT, unset=_COMPLETED),
        "item_reference": KnownFields("type", "id"),
    },
    default="message",
)
# More than any conversation needs; each reference may require parsing another stored response.
MAX_REFERENCES = 1000


class ItemNotFoundError(InvalidRequestError):
    """A referenced item is not stored."""

    status = 404
    code = "item_not_found"


def new_id(prefix: str) -> str:
    """Make an id in OpenAI's format."""
    return f"{prefix}_{uuid.uuid4().hex}"


def referenced_ids(items: str | Sequence[Item] | None) -> list[str]:
    """Return the ids of the item references in `items`.

    Raises InvalidRequestError for more than MAX_REFERENCES, and for an item that is referenced twice: a few bytes of
    input could otherwise expand to a prompt of any size.
    """
    if items is None or isinstance(items, str):
        return []
    ids: dict[str, None] = {}
    for number, item in enumerate(items):
        if item.get("type") != "item_reference" or not isinstance(item.get("id"), str):
            continue
        if item["id"] in ids:
            raise InvalidRequestError(
                f"input[{number}] references item {item['id']!r} again; reference each item once.", param="input"
            )
        ids[item["id"]] = None
    if len(ids) > MAX_REFERENCES:
        raise InvalidRequestError(
            f"input has {len(ids)} item references; at most {MAX_REFERENCES} are allowed. "
            "Send the items themselves, or continue from a response with previous_response_id.",
            param="input",
        )
    return list(ids)


def normalize_items(items: str | Sequence[Item] | None, stored: Mapping[str, Item]) -> list[Item]:
    """Normalize input; `stored` has the referenced items by id. InvalidRequestError names an invalid item."""
    if items is None:
        return []
    if isinstance(items, str):
        return [_message({"role": "user", "content": items}, "input")]
    return [_item(item, f"input[{number}]", stored) for number, item in enumerate(items)]


def _item(item: Item, where: str, stored: Mapping[str, Item]) -> Item:
    match item.get("type"):
        case "message" | None:
            return _message(item, where)
        case "function_call":
            call = {key: _string(item, key, where) for key in ("call_id", "name", "arguments")}
            return _base("function_call", "fc", item) | call
        case "function_call_output":
            output = item.get("output")
            if output is None:
                output = ""
            elif not isinstance(output, str):
                output = _parts(output, f"{where}.output")
            return _base("function_call_output", "fco", item) | {
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
            if id not in stored:
                raise ItemNotFoundError(
                    f"{where}: item with id {id!r} not found; it is unknown, deleted, expired or was not stored. "
                    "Send the item itself.",
                    param="input",
                )
            return stored[id]
        case kind:
            raise InvalidRequestError(
                f"{where} has the unsupported type {kind!r}. Available: {', '.join(ITEM_TYPES)}.",
                param="input",
            )


def _base(kind: str, prefix: str, item: Item) -> Item:
    return {"type": kind, "id": _id(item, prefix), "status": "completed"}


def _id(item: Item, prefix: str) -> str:
    id = item.get("id")
    return id if isinstance(id, str) and id else new_id(prefix)


def _message(item: Item, where: str) -> Item:
    role = item.get("role")
    if role not in ROLES:
        raise InvalidRequestError(f"{where}.role must be one of {', '.join(ROLES)}, got {role!r}.", param="input")
    content = item.get("content")
    if isinstance(content, str):
        content = [{"type": "input_text", "text": content}]
    parts = _parts(content, f"{where}.content")
    if role == "assistant":
        parts = [_output_part(part) for part in parts]
    return _base("message", "msg", item) | {"role": role, "content": parts}


def _output_part(part: Item) -> Item:
    if part["type"] not in TEXT_PART_TYPES:
        return part
    return {"type": "output_text", "text": part["text"], "annotations": [], "logprobs": []}


def _parts(parts: Any, where: str) -> list[Item]:
    if not isinstance(parts, list):
        raise InvalidRequestError(f"{where} must be a string or a list of parts.", param="input")
    for number, part in enumerate(parts):
        chat_part(part, f"{where}[{number}]")
    return parts


def chat_part(part: Any, where: str) -> Item:
    """Convert a part of an item to a part of a chat message; raises InvalidRequestError."""
    kind = part.get("type") if isinstance(part, dict) else None
    match kind:
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": _string(part, "text", where)}
        case "refusal":
            return {"type": "refusal", "refusal": _string(part, "refusal", where)}
        case "input_image":
            if not isinstance(part.get("image_url"), str):
                raise InvalidRequestError(
                    f"{where}.image_url must be a string; this server does not support file ids.", param="input"
                )
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
        case "input_file":
            return {"type": "file", "file": {key: value for key, value in part.items() if key != "type" and value}}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise InvalidRequestError(
        f"{where} has the unsupported type {kind!r}; use 'input_text', 'input_image', 'input_file' or 'input_audio'.",
        param="input",
    )


def _texts(parts: Any, where: str) -> list[Item]:
    if parts is None:
        return []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise InvalidRequestError(f"{where} must be a list of parts.", param="input")
    return [
        {"type": part.get("type"), "text": _string(part, "text", f"{where}[{number}]")}
        for number, part in enumerate(parts)
    ]


def _string(item: Mapping[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise InvalidRequestError(f"{where}.{key} must be a string, got {value!r}.", param="input")
    return value

"""The input items of POST /v1/responses: normalized to one shape, in which they are stored.

A client may send a message without a type, the SDK's output items with all their null fields, or references to stored
items. A normalized item has a type and an id, and its content is a list of parts.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from mlx_host.api.http import dumps
from mlx_host.api.ignored_fields import ByType, KnownFields
from mlx_host.errors import InvalidRequestError

Item = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
TEXT_PART_TYPES = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
PHASES = ("commentary", "final_answer")
# The prefixes of ids by type; other types have the prefix "item".
ID_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "compaction": "cmp",
}
# All output items of a response have this status.
_COMPLETED = {"status": "completed"}
_TEXT = KnownFields("type", "text")
PART_FIELDS = ByType(
    {
        **dict.fromkeys(TEXT_PART_TYPES, _TEXT),
        "refusal": KnownFields("type", "refusal"),
        "input_image": KnownFields("type", "image_url", "file_id", "detail"),
        "input_audio": KnownFields("type", input_audio=KnownFields("data", "format")),
    }
)
_CALL = ("type", "id", "call_id", "name", "namespace")
_OUTPUT = KnownFields("type", "id", "call_id", output=PART_FIELDS, unset=_COMPLETED)
ITEM_FIELDS = ByType(
    {
        "message": KnownFields("type", "id", "role", "phase", content=PART_FIELDS, unset=_COMPLETED),
        "function_call": KnownFields(*_CALL, "arguments", unset=_COMPLETED),
        "function_call_output": _OUTPUT,
        "custom_tool_call": KnownFields(*_CALL, "input", unset=_COMPLETED),
        "custom_tool_call_output": _OUTPUT,
        "reasoning": KnownFields(*("type", "id", "encrypted_content"), summary=_TEXT, content=_TEXT, unset=_COMPLETED),
        "item_reference": KnownFields("type", "id"),
        "mcp_call": KnownFields(*_CALL, "arguments", "output", "error", unset=_COMPLETED),
        "local_shell_call": KnownFields(*_CALL, "action", unset=_COMPLETED),
        "shell_call": KnownFields(*_CALL, "action", unset=_COMPLETED),
        "apply_patch_call": KnownFields(*_CALL, "operation", unset=_COMPLETED),
        **dict.fromkeys(
            ("local_shell_call_output", "shell_call_output", "apply_patch_call_output"),
            KnownFields("type", "id", "call_id", "output", "status"),
        ),
        "tool_search_call": KnownFields(*_CALL, "execution", "arguments", unset=_COMPLETED),
        "tool_search_output": KnownFields("type", "id", "call_id", "execution", "tools", unset=_COMPLETED),
        "compaction": KnownFields("type", "id", "encrypted_content"),
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
        if not is_reference(item) or not isinstance(item.get("id"), str):
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


def is_reference(item: Item) -> bool:
    """Whether an item refers to a stored one: its type may be missing if it has an id only."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and not item.keys() - {"id", "type"})


def _item(item: Item, where: str, stored: Mapping[str, Item]) -> Item:
    if is_reference(item):
        id = _string(item, "id", where)
        if id not in stored:
            raise ItemNotFoundError(
                f"{where}: item with id {id!r} not found: it does not exist, was not stored, was deleted or has "
                "expired. Send the item itself.",
                param="input",
            )
        return stored[id]
    match item.get("type"):
        case "message" | None:
            return _message(item, where)
        case "function_call":
            call = {
                "call_id": _call_id(item),
                "name": _string(item, "name", where),
                "arguments": _arguments(item, where),
            }
            return _base(item) | call | _namespace(item)
        case "custom_tool_call":
            call = {key: _string(item, key, where) for key in ("name", "input")}
            return _base(item) | {"call_id": _call_id(item)} | call | _namespace(item)
        case "function_call_output" | "custom_tool_call_output":
            return _base(item) | {
                "call_id": _string(item, "call_id", where),
                "output": _output(item.get("output"), f"{where}.output"),
            }
        case "reasoning":
            encrypted = item.get("encrypted_content")
            return {
                "type": "reasoning",
                "id": _id(item),
                "summary": _texts(item.get("summary"), f"{where}.summary"),
                "content": _texts(item.get("content"), f"{where}.content"),
                **({"encrypted_content": encrypted} if isinstance(encrypted, str) else {}),
            }
        case str():
            # Kept as it is, for the list of input items; how it is passed to the model is decided elsewhere.
            return {**item, "id": _id(item)}
        case kind:
            raise InvalidRequestError(f"{where}.type must be a string, got {kind!r}.", param="input")


def _base(item: Item) -> Item:
    return {"type": item["type"], "id": _id(item), "status": "completed"}


def _id(item: Item) -> str:
    id = item.get("id")
    return id if isinstance(id, str) and id else new_id(ID_PREFIXES.get(item.get("type", "message"), "item"))


def _call_id(item: Item) -> str:
    id = item.get("call_id")
    return id if isinstance(id, str) and id else _id(item)


def _namespace(item: Item) -> Item:
    return {"namespace": item["namespace"]} if isinstance(item.get("namespace"), str) else {}


def _arguments(item: Item, where: str) -> str:
    arguments = item.get("arguments")
    # Some clients parse the arguments that they received.
    return dumps(arguments) if isinstance(arguments, dict) else _string(item, "arguments", where)


def _output(output: Any, where: str) -> str | list[Item]:
    if output is None:
        return ""
    return output if isinstance(output, str) else _parts(output, where)


def _message(item: Item, where: str) -> Item:
    role = item.get("role")
    if role not in ROLES:
        raise InvalidRequestError(f"{where}.role must be one of {', '.join(ROLES)}, got {role!r}.", param="input")
    content = item.get("content")
    if content is None and role == "assistant":
        content = []
    if isinstance(content, str):
        content = [{"type": "input_text", "text": content}]
    parts = _parts(content, f"{where}.content")
    if role == "assistant":
        parts = [_output_part(part) for part in parts]
    phase = {"phase": item["phase"]} if role == "assistant" and item.get("phase") in PHASES else {}
    return _base({**item, "type": "message"}) | {"role": role, "content": parts} | phase


def _output_part(part: Item) -> Item:
    if part["type"] not in TEXT_PART_TYPES:
        return part
    return {"type": "output_text", "text": part["text"], "annotations": [], "logprobs": []}


def _parts(parts: Any, where: str) -> list[Item]:
    if not isinstance(parts, list):
        raise InvalidRequestError(f"{where} must be a string or a list of parts.", param="input")
    for number, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise InvalidRequestError(
                f"{where}[{number}] must be an object with a type, for example 'input_text'.", param="input"
            )
        chat_part(part, f"{where}[{number}]")
    return parts


def chat_part(part: Item, where: str) -> Item | None:
    """Convert a part of an item to a part of a chat message; None if its type is not supported.

    Raises InvalidRequestError for a malformed part.
    """
    match part["type"]:
        case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
            return {"type": "text", "text": _string(part, "text", where)}
        case "refusal":
            return {"type": "refusal", "refusal": _string(part, "refusal", where)}
        case "input_image" | "computer_screenshot":
            url = part.get("image_url")
            if not isinstance(url, str):
                if part.get("file_id"):
                    return None
                raise InvalidRequestError(f"{where}.image_url must be a string, got {url!r}.", param="input")
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case "input_file":
            return {"type": "file", "file": {key: value for key, value in part.items() if key != "type" and value}}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
    return None


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

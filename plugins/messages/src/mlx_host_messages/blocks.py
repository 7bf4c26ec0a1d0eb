"""Reads the fields of Anthropic's content blocks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from mlx_host.errors import InvalidRequestError

from mlx_host_messages.schema import Block

Part = dict[str, Any]


class UnreadableSourceError(InvalidRequestError):
    """The block is valid, but this server cannot read its source, such as a PDF file."""


def typed_blocks(content: Any, path: str) -> Iterator[tuple[Any, str]]:
    """Yield blocks with their paths. Raises InvalidRequestError if `content` is not a list."""
    if not isinstance(content, list):
        raise InvalidRequestError(f"{path} must be a string or a list of blocks.", param=path)
    for index, block in enumerate(content):
        yield block, f"{path}.{index}"


def block_type(block: Any, path: str) -> str:
    """Return the type of a block. Raises InvalidRequestError if it has none."""
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise InvalidRequestError(f"{path} must be an object with a type.", param=path)
    return str(block["type"])


def string(block: Block, key: str, path: str) -> str:
    """Return a field of a block. Raises InvalidRequestError if it is not a string."""
    value = block.get(key)
    if not isinstance(value, str):
        raise InvalidRequestError(f"{path}.{key} must be a string.", param=f"{path}.{key}")
    return value


def text_part(text: str) -> Part:
    """Return a text part of an OpenAI message."""
    return {"type": "text", "text": text}


def headers(block: Block, *keys: str) -> list[Part]:
    """Return the text fields that describe a block's content."""
    return [text_part(block[key]) for key in keys if isinstance(block.get(key), str) and block[key]]


def image_url(block: Block, path: str) -> str:
    """Return the URL of an image block. Raises UnreadableSourceError for a file id."""
    match block.get("source"):
        case {"type": "base64", "media_type": str() as media_type, "data": str() as data}:
            return f"data:{media_type};base64,{data}"
        case {"type": "url", "url": str() as url}:
            return url
        case {"type": "file"}:
            raise UnreadableSourceError(f"{path}.source is of type 'file'; this server stores no files.")
    raise InvalidRequestError(f"{path}.source must be of type base64 or url.", param=f"{path}.source")


def document_content(block: Block, path: str) -> Any:
    """Return the text or the blocks of a document. Raises UnreadableSourceError for files."""
    match block.get("source"):
        case {"type": "text", "data": str() as text}:
            return text
        case {"type": "content", "content": str() | list() as content}:
            return content
        case {"type": "base64" | "url" | "file" as kind}:
            raise UnreadableSourceError(f"{path}.source is of type {kind!r}; this server cannot read such documents.")
    raise InvalidRequestError(f"{path}.source must be of type text or content.", param=f"{path}.source")


def call(block: Block, path: str) -> dict[str, Any]:
    """Return the OpenAI tool call of a tool_use, server_tool_use or mcp_tool_use block."""
    arguments = block.get("input")
    if not isinstance(arguments, str):
        arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
    function = {"name": string(block, "name", path), "arguments": arguments}
    return {"id": string(block, "id", path), "type": "function", "function": function}


def server_result(content: Any) -> str:
    """Return the result of a tool that another server ran as text, without what only that server can read."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(block, dict) and isinstance(block.get("text"), str) for block in content
    ):
        return "\n".join(block["text"] for block in content)
    return json.dumps(_readable(content), ensure_ascii=False)


OPAQUE = re.compile(r"encrypted_\w+|signature")


def _readable(value: Any) -> Any:
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if not isinstance(value, dict):
        return value
    binary = {"data"} if value.get("type") == "base64" else set()
    return {key: _readable(item) for key, item in value.items() if key not in binary and not OPAQUE.fullmatch(key)}


def joined(parts: list[Part]) -> str | list[Part]:
    """Return a single string if all parts are text, otherwise the parts."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join([part["text"] for part in parts])
    return parts

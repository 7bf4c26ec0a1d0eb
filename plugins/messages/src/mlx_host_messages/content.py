"""Converts Anthropic's messages and content blocks to OpenAI's messages, the format of ChatRequest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from mlx_host.errors import InvalidRequestError
from mlx_host.requests import Json

from mlx_host_messages.schema import AnthropicMessage, Block

Part = dict[str, Any]


def to_messages(
    system: str | list[Block] | None, messages: Sequence[AnthropicMessage], normalize: Callable[[str], str]
) -> list[Json]:
    """Convert a conversation and normalize its system prompts.

    Raises InvalidRequestError for unsupported blocks.
    """
    if messages[-1].role == "assistant":
        raise InvalidRequestError(
            "messages: the last message has role 'assistant'; continuing (prefilling) a message is not supported. End "
            "with a user message.",
            param="messages",
        )
    converted: list[Json] = []
    if system is not None and (text := normalize(_text_of(system, "system"))):
        converted.append({"role": "system", "content": text})
    for index, message in enumerate(messages):
        path = f"messages.{index}.content"
        if message.role == "system":
            converted.append({"role": "system", "content": normalize(_text_of(message.content, path))})
        elif message.role == "assistant":
            converted.append(_assistant(message.content, path))
        else:
            converted += _user(message.content, path)
    return converted


def _user(content: str | list[Block], path: str) -> list[Json]:
    """Convert a user message; each tool result becomes a separate message in OpenAI's format."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    messages: list[Json] = []
    parts: list[Part] = []
    for block, block_path in _blocks(content, path):
        if block["type"] != "tool_result":
            parts += _parts(block, block_path)
            continue
        if parts:
            messages.append({"role": "user", "content": _content(parts)})
            parts = []
        messages.append(_tool_result(block, block_path))
    if parts or not messages:
        messages.append({"role": "user", "content": _content(parts)})
    return messages


def _tool_result(block: Block, path: str) -> Json:
    content = block.get("content") or ""
    if not isinstance(content, str):
        content = _content(_nested_parts(content, f"{path}.content"))
    return {"role": "tool", "tool_call_id": _string(block, "tool_use_id", path), "content": content}


def _assistant(content: str | list[Block], path: str) -> Json:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    for block, block_path in _blocks(content, path):
        match block["type"]:
            case "text":
                texts.append(_string(block, "text", block_path))
            case "thinking":
                reasoning.append(_string(block, "thinking", block_path))
            case "redacted_thinking":
                pass  # Encrypted by Anthropic.
            case "tool_use":
                calls.append(_call(block, block_path))
            case block_type:
                raise _unsupported(block_type, block_path)
    message: dict[str, Any] = {"role": "assistant", "content": "\n".join(texts)}
    if reasoning:
        message["reasoning_content"] = "\n".join(reasoning)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Block, path: str) -> dict[str, Any]:
    arguments = block.get("input")
    if not isinstance(arguments, dict):
        raise InvalidRequestError(f"{path}.input must be an object.", param=f"{path}.input")
    function = {"name": _string(block, "name", path), "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": _string(block, "id", path), "type": "function", "function": function}


def _parts(block: Block, path: str) -> list[Part]:
    """Convert a block to content parts of an OpenAI message."""
    match block["type"]:
        case "text":
            return [_text(_string(block, "text", path))]
        case "image":
            return [{"type": "image_url", "image_url": {"url": _image(block, path)}}]
        case "document":
            return _document(block, path)
        case "search_result":
            header = [_text(block[key]) for key in ("title", "source") if isinstance(block.get(key), str)]
            return header + _nested_parts(block.get("content"), f"{path}.content")
        case block_type:
            raise _unsupported(block_type, path)


def _nested_parts(content: Any, path: str) -> list[Part]:
    """Convert the blocks inside a block."""
    return [part for block, block_path in _blocks(content, path) for part in _parts(block, block_path)]


def _image(block: Block, path: str) -> str:
    """Return the URL of an image block."""
    match block.get("source"):
        case {"type": "base64", "media_type": str() as media_type, "data": str() as data}:
            return f"data:{media_type};base64,{data}"
        case {"type": "url", "url": str() as url}:
            return url
    raise InvalidRequestError(f"{path}.source must be of type base64 or url.", param=f"{path}.source")


def _document(block: Block, path: str) -> list[Part]:
    match block.get("source"):
        case {"type": "text", "data": str() as text} | {"type": "content", "content": str() as text}:
            return [_text(text)]
        case {"type": "content", "content": list() as content}:
            return _nested_parts(content, f"{path}.source.content")
    raise InvalidRequestError(
        f"{path}.source must be of type text or content; other types of documents are not supported.",
        param=f"{path}.source",
    )


def _content(parts: list[Part]) -> str | list[Part]:
    """Return a single string if all parts are text, otherwise the parts."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join([part["text"] for part in parts])
    return parts


def _text_of(content: str | list[Block], path: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for block, block_path in _blocks(content, path):
        if block["type"] != "text":
            raise _unsupported(block["type"], block_path)
        texts.append(_string(block, "text", block_path))
    return "\n".join(texts)


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _blocks(content: Any, path: str) -> list[tuple[Block, str]]:
    """Return blocks with their paths. Raises InvalidRequestError for a block without a type."""
    if not isinstance(content, list):
        raise InvalidRequestError(f"{path} must be a string or a list of blocks.", param=path)
    for index, block in enumerate(content):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise InvalidRequestError(f"{path}.{index} must be an object with a type.", param=f"{path}.{index}")
    return [(block, f"{path}.{index}") for index, block in enumerate(content)]


def _string(block: Block, key: str, path: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise InvalidRequestError(f"{path}.{key} must be a string.", param=f"{path}.{key}")
    return value


def _unsupported(block_type: str, path: str) -> InvalidRequestError:
    return InvalidRequestError(f"{path} has the unsupported type {block_type!r}.", param=f"{path}.type")

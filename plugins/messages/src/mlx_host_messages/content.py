"""Anthropic's messages and content blocks as OpenAI's messages, which a ChatRequest has."""

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
    """Convert a conversation, and normalize its system prompts; InvalidRequestError names an unsupported block."""
    if messages[-1].role == "assistant":
        raise InvalidRequestError(
            "messages: the last one is the assistant's, and this server cannot continue a message. "
            "End with a message of the user.",
            param="messages",
        )
    converted: list[Json] = []
    if system is not None and (text := normalize(_text_of(system, "system"))):
        converted.append({"role": "system", "content": text})
    for number, message in enumerate(messages):
        where = f"messages.{number}.content"
        if message.role == "system":
            converted.append({"role": "system", "content": normalize(_text_of(message.content, where))})
        elif message.role == "assistant":
            converted.append(_assistant(message.content, where))
        else:
            converted += _user(message.content, where)
    return converted


def _user(content: str | list[Block], where: str) -> list[Json]:
    """Convert a user message: text and tool results are one message in Anthropic's API, several in OpenAI's."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    messages: list[Json] = []
    parts: list[Part] = []
    for block, at in _blocks(content, where):
        if block["type"] != "tool_result":
            parts += _parts(block, at)
            continue
        if parts:
            messages.append({"role": "user", "content": _content(parts)})
            parts = []
        messages.append(_result(block, at))
    if parts or not messages:
        messages.append({"role": "user", "content": _content(parts)})
    return messages


def _result(block: Block, where: str) -> Json:
    content = block.get("content") or ""
    if not isinstance(content, str):
        content = _content([part for each, at in _blocks(content, f"{where}.content") for part in _parts(each, at)])
    return {"role": "tool", "tool_call_id": _string(block, "tool_use_id", where), "content": content}


def _assistant(content: str | list[Block], where: str) -> Json:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    for block, at in _blocks(content, where):
        match block["type"]:
            case "text":
                texts.append(_string(block, "text", at))
            case "thinking":
                reasoning.append(_string(block, "thinking", at))
            case "redacted_thinking":
                pass  # Only Anthropic can decrypt it.
            case "tool_use":
                calls.append(_call(block, at))
            case kind:
                raise _unsupported(kind, at)
    message: dict[str, Any] = {"role": "assistant", "content": "\n".join(texts)}
    if reasoning:
        message["reasoning_content"] = "\n".join(reasoning)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Block, where: str) -> dict[str, Any]:
    arguments = block.get("input")
    if not isinstance(arguments, dict):
        raise InvalidRequestError(f"{where}.input must be an object.", param=f"{where}.input")
    function = {"name": _string(block, "name", where), "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": _string(block, "id", where), "type": "function", "function": function}


def _parts(block: Block, where: str) -> list[Part]:
    """Convert a block to parts of OpenAI's message."""
    match block["type"]:
        case "text":
            return [_text(_string(block, "text", where))]
        case "image":
            return [{"type": "image_url", "image_url": {"url": _image(block, where)}}]
        case "document":
            return _document(block, where)
        case "search_result":
            head = [_text(block[key]) for key in ("title", "source") if isinstance(block.get(key), str)]
            content = _blocks(block.get("content"), f"{where}.content")
            return head + [part for each, at in content for part in _parts(each, at)]
        case kind:
            raise _unsupported(kind, where)


def _image(block: Block, where: str) -> str:
    match block.get("source"):
        case {"type": "base64", "media_type": str() as kind, "data": str() as data}:
            return f"data:{kind};base64,{data}"
        case {"type": "url", "url": str() as url}:
            return url
    raise InvalidRequestError(f"{where}.source must be of type base64 or url.", param=f"{where}.source")


def _document(block: Block, where: str) -> list[Part]:
    match block.get("source"):
        case {"type": "text", "data": str() as text} | {"type": "content", "content": str() as text}:
            return [_text(text)]
        case {"type": "content", "content": list() as content}:
            return [part for each, at in _blocks(content, f"{where}.source.content") for part in _parts(each, at)]
    raise InvalidRequestError(
        f"{where}.source must be of type text or content; this server does not support other documents.",
        param=f"{where}.source",
    )


def _content(parts: list[Part]) -> str | list[Part]:
    """Return text as one string, and anything else as parts."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join([part["text"] for part in parts])
    return parts


def _text_of(content: str | list[Block], where: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for block, at in _blocks(content, where):
        if block["type"] != "text":
            raise _unsupported(block["type"], at)
        texts.append(_string(block, "text", at))
    return "\n".join(texts)


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _blocks(content: Any, where: str) -> list[tuple[Block, str]]:
    """Return blocks with their paths; InvalidRequestError if one has no type."""
    if not isinstance(content, list):
        raise InvalidRequestError(f"{where} must be a string or a list of blocks.", param=where)
    for number, block in enumerate(content):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise InvalidRequestError(f"{where}.{number} must be an object with a type.", param=f"{where}.{number}")
    return [(block, f"{where}.{number}") for number, block in enumerate(content)]


def _string(block: Block, key: str, where: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise InvalidRequestError(f"{where}.{key} must be a string.", param=f"{where}.{key}")
    return value


def _unsupported(kind: str, where: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{where} is of type {kind!r}, which this server does not support.", param=f"{where}.type"
    )

"""Converts OpenAI messages to the format that a chat template expects."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlx_host.errors import InvalidRequestError
from mlx_host.requests import Json

ReasoningKey = Literal["reasoning_content", "thinking", "reasoning"]
REASONING_KEYS: tuple[ReasoningKey, ...] = ("reasoning_content", "thinking", "reasoning")
TEXT_PARTS = ("text", "input_text", "output_text")
MEDIA_PARTS = ("image_url", "input_image", "input_audio")
SHORT_ID_LENGTH = 9
# Kimi's ids: the function's name and the number of the call in the conversation.
NAMED_ID = re.compile(r"functions\.\S+:\d+")
ContentConverter = Callable[[Any, str], Any]
"""Converts a message's content for the template; the second argument locates the message in error messages."""


def text_content(content: Any, where: str) -> str:
    """The content of a text-only message as one string."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise InvalidRequestError(f"{where}.content must be a string or a list of parts.", param="messages")
    return "\n".join(text_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))


def text_part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(part, str):
        return part
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return str(part["refusal"])
    if kind in TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind in TEXT_PARTS or not isinstance(kind, str):
        raise InvalidRequestError(f"{where} must be an object with a type and a text.", param="messages")
    instead = "; run a model with --backend vlm" if kind in MEDIA_PARTS else ""
    raise InvalidRequestError(f"{where} is of type {kind!r}; this model supports text only{instead}.", param="messages")


@dataclass(frozen=True)
class TemplateFormat:
    """The message format that a chat template expects.

    `arguments` is the type of a call's arguments. Without `parallel_calls` the template renders one call per message,
    without `long_ids` it accepts ids of nine characters only, and without `content_with_reasoning` it rejects messages
    that have content, reasoning and calls at once. With `named_ids` it renders a call's id in place of its function's
    name, so that ids of other models are replaced by `functions.NAME:NUMBER`.
    """

    arguments: Literal["mapping", "string"] = "mapping"
    parallel_calls: bool = True
    long_ids: bool = True
    reasoning_key: ReasoningKey = "reasoning_content"
    content_with_reasoning: bool = True
    named_ids: bool = False

    def convert(self, messages: Sequence[Json], content: ContentConverter = text_content) -> list[dict[str, Any]]:
        """Convert messages to this format; InvalidRequestError for malformed ones."""
        if not messages:
            raise InvalidRequestError("messages is empty; send at least one message.", param="messages")
        calls = _Calls()
        converted = [self._message(message, f"messages[{i}]", calls, content) for i, message in enumerate(messages)]
        return converted if self.parallel_calls else _pair_calls_with_results(converted)

    def _message(self, message: Any, where: str, calls: _Calls, content: ContentConverter) -> dict[str, Any]:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidRequestError(f"{where} is not a message: it must be an object with a role.", param="messages")
        result = {key: value for key, value in message.items() if key not in REASONING_KEYS}
        result["content"] = content(message.get("content"), where)
        if message["role"] == "assistant":
            self._add_calls(result, where, calls)
            self._add_reasoning(result, message, where)
        elif message["role"] == "tool":
            self._add_function_name(result, calls)
        return result

    def _add_calls(self, result: dict[str, Any], where: str, calls: _Calls) -> None:
        given = result.pop("tool_calls", None)
        if not given:
            return
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise InvalidRequestError(f"{where}.tool_calls must be a list.", param="messages")
        result["tool_calls"] = [self._call(call, f"{where}.tool_calls[{i}]", calls) for i, call in enumerate(given)]

    def _call(self, call: Any, where: str, calls: _Calls) -> dict[str, Any]:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidRequestError(
                f"{where} is not a tool call: it must have a function with a name.", param="messages"
            )
        arguments = function.get("arguments")
        converted = _as_mapping(arguments) if self.arguments == "mapping" else _as_string(arguments)
        result = {**call, "type": "function", "function": {**function, "arguments": converted}}
        call_id = call.get("id")
        if isinstance(call_id, str):
            calls.names[call_id] = function["name"]
            calls.ids[call_id] = self._id(call_id, function["name"], calls.count)
        if isinstance(call_id, str) or self.named_ids:
            result["id"] = calls.ids[call_id] if call_id else self._id("", function["name"], calls.count)
        calls.count += 1
        return result

    def _add_function_name(self, result: dict[str, Any], calls: _Calls) -> None:
        call_id = result.get("tool_call_id")
        if isinstance(call_id, str):
            result["tool_call_id"] = calls.ids.get(call_id) or self._short_id(call_id)
            if call_id in calls.names and not result.get("name"):
                result["name"] = calls.names[call_id]

    def _add_reasoning(self, result: dict[str, Any], message: Json, where: str) -> None:
        reasoning = next((message[key] for key in REASONING_KEYS if message.get(key)), None)
        if reasoning is None:
            return
        if not isinstance(reasoning, str):
            raise InvalidRequestError(f"{where}.reasoning_content must be a string.", param="messages")
        if result["content"] and result.get("tool_calls") and not self.content_with_reasoning:
            reasoning, result["content"] = f"{reasoning}\n\n{result['content']}", ""
        result[self.reasoning_key] = reasoning

    def _id(self, call_id: str, name: str, number: int) -> str:
        if self.named_ids and not NAMED_ID.fullmatch(call_id):
            return f"functions.{name}:{number}"
        return self._short_id(call_id)

    def _short_id(self, call_id: str) -> str:
        if self.long_ids or (len(call_id) == SHORT_ID_LENGTH and call_id.isalnum()):
            return call_id
        return hashlib.sha256(call_id.encode()).hexdigest()[:SHORT_ID_LENGTH]


@dataclass
class _Calls:
    """The calls of a conversation so far: their number, and the names and rendered ids by id."""

    count: int = 0
    names: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)


def order_results(messages: Sequence[Json]) -> list[Json]:
    """Put each run of tool results in the order of the calls before it: many templates render no ids."""
    ordered: list[Json] = []
    numbers: dict[Any, int] = {}
    start = 0
    for message in messages:
        is_message = isinstance(message, Mapping)
        ordered.append(message)
        if not is_message or message.get("role") != "tool":
            calls = message.get("tool_calls") if is_message else None
            ids = [call.get("id") for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
            numbers = {id: number for number, id in enumerate(ids) if isinstance(id, str)}
            start = len(ordered)
        elif len(numbers) > 1 and len(ordered) - start > 1:
            run = ordered[start:]
            ordered[start:] = sorted(run, key=lambda result: numbers.get(_result_id(result), len(numbers)))
    return ordered


def _result_id(message: Json) -> str | None:
    call_id = message.get("tool_call_id")
    return call_id if isinstance(call_id, str) else None


def _as_mapping(arguments: Any) -> dict[str, Any]:
    value = arguments
    if isinstance(arguments, str):
        with contextlib.suppress(json.JSONDecodeError):
            value = json.loads(arguments) if arguments.strip() else {}
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else {"arguments": value}


def _as_string(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments if arguments.strip() else "{}"
    return json.dumps({} if arguments is None else arguments, ensure_ascii=False)


def _pair_calls_with_results(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Split messages with several calls into one message per call, each followed by its result."""
    paired: list[dict[str, Any]] = []
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        calls = message.get("tool_calls") or []
        if len(calls) < 2:
            paired.append(message)
            continue
        results: list[dict[str, Any]] = []
        while rest and rest[0]["role"] == "tool":
            results.append(rest.pop(0))
        for i, call in enumerate(calls):
            head = message if i == 0 else {"role": "assistant", "content": ""}
            paired.append({**head, "tool_calls": [call]})
            own = [result for result in results if result.get("tool_call_id") == call.get("id")]
            paired.extend(own)
            results = [result for result in results if result not in own]
        paired.extend(results)
    return paired

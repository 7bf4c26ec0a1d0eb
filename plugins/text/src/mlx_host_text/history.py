"""Completes the tool calls and results of a conversation, as templates and the code after this expect them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_host.requests import Json

from mlx_host_text.messages import REASONING_KEYS, order_results


def complete_history(messages: Sequence[Json]) -> list[Json]:
    """Return messages without the legacy roles of functions, with ids, and with results in the order of their calls.

    A result without an id belongs to the first call of the last assistant message that has no result.
    """
    completed: list[Json] = []
    # The ids, and the names of the functions, of calls without a result.
    unanswered: dict[str, Any] = {}
    for message in messages:
        if isinstance(message, Mapping):
            message = _without_legacy_roles(message)
            if message.get("role") == "assistant" and isinstance(message.get("tool_calls"), list):
                message = _with_call_ids(message, len(completed))
                unanswered = _names(message["tool_calls"])
            elif message.get("role") == "tool":
                message = _with_result_id(message, unanswered, len(completed))
                unanswered.pop(message["tool_call_id"], None)
        completed.append(message)
    return order_results(completed)


def _without_legacy_roles(message: Json) -> Json:
    if message.get("role") == "function":
        return {**message, "role": "tool"}
    function = message.get("function_call")
    if message.get("role") != "assistant" or not isinstance(function, Mapping):
        return message
    kept = {key: value for key, value in message.items() if key != "function_call"}
    return kept if kept.get("tool_calls") else {**kept, "tool_calls": [{"type": "function", "function": function}]}


def _with_call_ids(message: Json, number: int) -> Json:
    calls = [
        {**call, "id": f"call{number:04d}{index}"} if isinstance(call, Mapping) and not call.get("id") else call
        for index, call in enumerate(message["tool_calls"])
    ]
    return {**message, "tool_calls": calls}


def _names(calls: Sequence[Any]) -> dict[str, Any]:
    functions = {call["id"]: call.get("function") for call in calls if isinstance(call, Mapping)}
    return {
        call_id: function.get("name") if isinstance(function, Mapping) else None
        for call_id, function in functions.items()
        if isinstance(call_id, str)
    }


def _with_result_id(message: Json, unanswered: Mapping[str, Any], number: int) -> Json:
    if isinstance(message.get("tool_call_id"), str) and message["tool_call_id"]:
        return message
    name = message.get("name")
    named = [call_id for call_id, function in unanswered.items() if name is None or function == name]
    return {**message, "tool_call_id": next(iter(named or unanswered), f"call{number:04d}0")}


def not_rendered(messages: Sequence[Json], prompt: str) -> dict[str, str]:
    """Return a reason for each text of a message, by its path, that is not in the prompt."""
    reason = "The chat template does not render it."
    missing: dict[str, str] = {}
    for number, message in enumerate(messages):
        for key in ("content", *REASONING_KEYS):
            text = message.get(key)
            if isinstance(text, str) and text.strip() and text.strip() not in prompt:
                missing[f"messages[{number}].{key}"] = reason
    return missing

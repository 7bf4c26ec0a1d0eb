"""Translates the body of POST /v1/responses to a ChatRequest, and rejects unsupported fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlx_host._apis.responses.chat_messages import to_messages
from mlx_host._apis.responses.items import Item, new_id
from mlx_host._apis.responses.schema import InputBody, ResponsesBody
from mlx_host.api.tool_choice import choose
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ChatRequest


def to_request(body: ResponsesBody, items: Sequence[Item]) -> ChatRequest:
    """Convert a body whose conversation is `items`; InvalidRequestError names an unsupported field."""
    if body.background:
        raise InvalidRequestError("background is not supported by this server; use stream.", param="background")
    return replace(
        to_prompt(body, items),
        priority=body.queue_priority(),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        sampling=body.sampling(),
        max_tokens=body.max_output_tokens,
        max_reasoning_tokens=body.max_reasoning_tokens(),
        stop=body.stops(),
        include_stop=body.include_stop_str_in_output is True,
        cache_salt=body.cache_salt,
        top_logprobs=(body.top_logprobs or 0) if body.wants_logprobs else None,
    )


def to_prompt(body: InputBody, items: Sequence[Item]) -> ChatRequest:
    """Convert the fields that determine the prompt."""
    for name in ("conversation", "prompt"):
        if getattr(body, name):
            raise InvalidRequestError(f"{name} is not supported by this server.", param=name)
    format = body.text.format if body.text is not None else None
    tools = [_tool(tool, f"tools[{number}]") for number, tool in enumerate(body.tools or ())]
    messages = to_messages(body.instructions, items)
    if not messages:
        raise InvalidRequestError("input is missing; send a string or a list of items.", param="input")
    return ChatRequest(
        id=new_id("resp"),
        model=body.model or "",
        messages=messages,
        **choose(body.tool_choice, tools),
        output_format=body.output_format(format.output_format() if format is not None else None, "text.format"),
        template_kwargs=body.template_kwargs(None),
    )


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise InvalidRequestError(
            f"{where} has the unsupported type {tool.get('type')!r}; use 'function'.",
            param=f"{where}.type",
        )
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise InvalidRequestError(f"{where}.name must be a non-empty string.", param=f"{where}.name")
    for key, kind, expected in (
        ("description", str, "a string"),
        ("parameters", dict, "an object"),
        ("strict", bool, "a boolean"),
    ):
        if not isinstance(tool.get(key), kind | None):
            raise InvalidRequestError(f"{where}.{key} must be {expected}.", param=f"{where}.{key}")
    # OpenAI's default of `strict` is true. Here it is false, because not every schema can be enforced.
    fields = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: tool[key] for key in fields if tool.get(key) is not None}}

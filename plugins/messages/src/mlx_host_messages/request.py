"""Converts request bodies to ChatRequest and rejects unsupported fields."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from mlx_host.api.text import ToolFields, schema_output_format, stop_strings, tool_fields
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Grammar
from mlx_host.requests import ChatRequest, Json

from mlx_host_messages.content import to_messages
from mlx_host_messages.schema import MessagesBody, PromptBody, is_builtin

# Values of `enable_thinking` by type of `thinking`. With other types, the model decides.
ENABLE_THINKING = {"enabled": True, "disabled": False}


def to_prompt(body: PromptBody, normalize: Callable[[str], str]) -> ChatRequest:
    """Convert the fields that determine the prompt. Raises InvalidRequestError."""
    return ChatRequest(**_prompt(body, normalize))


def to_request(body: MessagesBody, normalize: Callable[[str], str]) -> ChatRequest:
    """Convert a body. Raises InvalidRequestError for unsupported fields."""
    return ChatRequest(
        **_prompt(body, normalize),
        stream_tool_arguments=body.stream is True,
        parallel_tool_calls=body.tool_choice is None or body.tool_choice.disable_parallel_tool_use is not True,
        sampling=body.sampling(),
        max_tokens=body.max_tokens,
        max_reasoning_tokens=_max_reasoning_tokens(body),
        stop=stop_strings(body.stop_sequences or (), "stop_sequences"),
    )


def reasoning_limits(body: PromptBody) -> dict[str, int]:
    """Return the fields that limit the reasoning tokens; -1 means no limit."""
    enabled = body.thinking is not None and body.thinking.type == "enabled"
    limits = {
        "thinking.budget_tokens": body.thinking.budget_tokens if body.thinking is not None and enabled else None,
        "thinking_token_budget": body.thinking_token_budget,
    }
    return {name: value for name, value in limits.items() if value is not None}


def _max_reasoning_tokens(body: PromptBody) -> int | None:
    limits = reasoning_limits(body)
    if len(limits) > 1:
        raise InvalidRequestError(f"{' and '.join(limits)} cannot be combined; set only one of them.", param="thinking")
    return next(iter(limits.values()), None)


def _prompt(body: PromptBody, normalize: Callable[[str], str]) -> dict[str, Any]:
    tools = [_tool(tool, f"tools.{index}") for index, tool in enumerate(body.tools or ()) if not is_builtin(tool)]
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "model": body.model or "",
        "messages": to_messages(body.system, body.messages, normalize),
        **_tool_choice(body, tools),
        "output_format": _output_grammar(body),
        "template_kwargs": _template_kwargs(body),
    }


def _output_grammar(body: PromptBody) -> Grammar | None:
    """Return the grammar of output_config.format or, for older clients, output_format."""
    config = body.output_config
    fields = {"output_format": body.output_format, "output_config.format": config.format if config else None}
    formats = {param: output_format for param, output_format in fields.items() if output_format is not None}
    if len(formats) > 1:
        raise InvalidRequestError("output_config.format and output_format cannot both be set.", param="output_format")
    if not formats:
        return None
    ((param, output_format),) = formats.items()
    return schema_output_format(output_format.type, output_format.json_schema, param, "schema")


def _tool_choice(body: PromptBody, tools: Sequence[Json]) -> ToolFields:
    choice = body.tool_choice
    if choice is None:
        return tool_fields("auto", tools)
    if choice.type not in ("any", "tool"):
        return tool_fields("none" if choice.type == "none" else "auto", tools)
    if body.thinking is not None and body.thinking.type == "enabled":
        raise InvalidRequestError(
            f"thinking cannot be enabled with tool_choice {choice.type!r}, which forces a call; remove one of them.",
            param="thinking",
        )
    if choice.type == "tool" and choice.name is None:
        raise InvalidRequestError("tool_choice of type 'tool' requires the name of a tool.", param="tool_choice.name")
    return tool_fields("required", tools, None if choice.name is None or choice.type == "any" else [choice.name])


def _template_kwargs(body: PromptBody) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    if body.thinking is not None and body.thinking.type in ENABLE_THINKING:
        kwargs["enable_thinking"] = ENABLE_THINKING[body.thinking.type]
    if body.output_config is not None and body.output_config.effort is not None:
        kwargs["reasoning_effort"] = body.output_config.effort
    return kwargs | (body.chat_template_kwargs or {})


def _tool(tool: dict[str, Any], path: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise InvalidRequestError(f"{path}.type must be a string.", param=f"{path}.type")
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise InvalidRequestError(f"{path}.name must be a non-empty string.", param=f"{path}.name")
    if not isinstance(tool.get("input_schema"), dict):
        raise InvalidRequestError(f"{path}.input_schema must be an object.", param=f"{path}.input_schema")
    # In the order of the other APIs, because templates write tools as JSON.
    function: dict[str, Any] = {"name": tool["name"]}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    function["parameters"] = tool["input_schema"]
    if tool.get("strict") is True:
        function["strict"] = True
    return {"type": "function", "function": function}

"""Bodies as a ChatRequest; fields that cannot be honored are rejected by name."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from mlx_host.api.text import MAX_STOPS, ToolFields, schema_output_format, tool_fields
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Grammar
from mlx_host.requests import ChatRequest, Json

from mlx_host_messages.content import to_messages
from mlx_host_messages.schema import MessagesBody, PromptBody

# Other types leave the decision to the model.
ENABLES_THINKING = {"enabled": True, "disabled": False}


def to_prompt(body: PromptBody, normalize: Callable[[str], str]) -> ChatRequest:
    """Convert the fields that determine the prompt."""
    return ChatRequest(**_prompt(body, normalize))


def to_request(body: MessagesBody, normalize: Callable[[str], str]) -> ChatRequest:
    """Convert a body; InvalidRequestError names a field that cannot be honored."""
    stops = tuple(stop for stop in body.stop_sequences or () if stop)
    if len(stops) > MAX_STOPS:
        raise InvalidRequestError(
            f"stop_sequences: at most {MAX_STOPS} strings, got {len(stops)}.", param="stop_sequences"
        )
    return ChatRequest(
        **_prompt(body, normalize),
        parallel_tool_calls=body.tool_choice is None or body.tool_choice.disable_parallel_tool_use is not True,
        sampling=body.sampling(),
        max_tokens=body.max_tokens,
        stop=stops,
    )


def ignored(body: PromptBody) -> list[str]:
    """Return the names of fields that were given, are not null, and have no effect."""
    fields = body.given_extra()
    fields += [f"tools.{tool['type']}" for tool in body.tools or () if _is_builtin(tool)]
    if body.thinking is not None and (body.thinking.model_extra or {}).get("budget_tokens") is not None:
        fields.append("thinking.budget_tokens")
    return sorted(set(fields))


def _prompt(body: PromptBody, normalize: Callable[[str], str]) -> dict[str, Any]:
    tools = [_tool(tool, f"tools.{n}") for n, tool in enumerate(body.tools or ()) if not _is_builtin(tool)]
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "model": body.model or "",
        "messages": to_messages(body.system, body.messages, normalize),
        **_choice(body, tools),
        "form": _form(body),
        "template_kwargs": _template_kwargs(body),
    }


def _form(body: PromptBody) -> Grammar | None:
    """Return the grammar of the text; output_format is the former name, which some clients still send."""
    config = body.output_config
    given = {"output_format": body.output_format, "output_config.format": config.format if config else None}
    formats = {name: format for name, format in given.items() if format is not None}
    if len(formats) > 1:
        raise InvalidRequestError("output_config.format and output_format cannot both be given.", param="output_format")
    forms = [schema_output_format(format.type, format.json_schema, name, "schema") for name, format in formats.items()]
    return forms[0] if forms else None


def _choice(body: PromptBody, tools: Sequence[Json]) -> ToolFields:
    choice = body.tool_choice
    if choice is None:
        return tool_fields("auto", tools)
    if choice.type not in ("any", "tool"):
        return tool_fields("none" if choice.type == "none" else "auto", tools)
    if body.thinking is not None and body.thinking.type == "enabled":
        raise InvalidRequestError(
            f"thinking cannot be enabled when tool_choice, {choice.type!r}, forces a call; remove one of them.",
            param="thinking",
        )
    if choice.type == "tool" and choice.name is None:
        raise InvalidRequestError("tool_choice of type 'tool' requires the name of a tool.", param="tool_choice.name")
    return tool_fields("required", tools, None if choice.name is None or choice.type == "any" else [choice.name])


def _template_kwargs(body: PromptBody) -> dict[str, Any]:
    named: dict[str, Any] = {}
    if body.thinking is not None and body.thinking.type in ENABLES_THINKING:
        named["enable_thinking"] = ENABLES_THINKING[body.thinking.type]
    if body.output_config is not None and body.output_config.effort is not None:
        named["reasoning_effort"] = body.output_config.effort
    return named | (body.chat_template_kwargs or {})


def _is_builtin(tool: dict[str, Any]) -> bool:
    """Whether Anthropic defines the tool: only its models know it, or its servers run it."""
    return isinstance(tool.get("type"), str) and tool["type"] != "custom"


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise InvalidRequestError(f"{where}.type must be a string.", param=f"{where}.type")
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise InvalidRequestError(f"{where}.name must be a non-empty string.", param=f"{where}.name")
    if not isinstance(tool.get("input_schema"), dict):
        raise InvalidRequestError(f"{where}.input_schema must be an object.", param=f"{where}.input_schema")
    function: dict[str, Any] = {"name": tool["name"], "parameters": tool["input_schema"]}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    if tool.get("strict") is True:
        function["strict"] = True
    return {"type": "function", "function": function}

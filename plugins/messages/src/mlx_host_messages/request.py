"""From the bodies to a ChatRequest; what cannot be honoured is refused by name."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from mlx_host.api.common_fields import MOST_STOPS
from mlx_host.api.response_format import schema_form
from mlx_host.api.text import ToolFields, tool_fields
from mlx_host.errors import InvalidRequest
from mlx_host.grammar import Grammar
from mlx_host.requests import ChatRequest, Json

from mlx_host_messages.content import to_messages
from mlx_host_messages.schema import MessagesBody, PromptBody

# A thinking model that decides by itself is left to do so.
ENABLES_THINKING = {"enabled": True, "disabled": False}


def to_prompt(body: PromptBody, canonical: Callable[[str], str]) -> ChatRequest:
    """Translate what makes the prompt."""
    return ChatRequest(**_prompt(body, canonical))


def to_request(body: MessagesBody, canonical: Callable[[str], str]) -> ChatRequest:
    """Translate a body; InvalidRequest names what cannot be honoured."""
    stops = tuple(stop for stop in body.stop_sequences or () if stop)
    if len(stops) > MOST_STOPS:
        raise InvalidRequest(f"stop_sequences: at most {MOST_STOPS} strings, got {len(stops)}.", param="stop_sequences")
    return ChatRequest(
        **_prompt(body, canonical),
        parallel_tool_calls=body.tool_choice is None or body.tool_choice.disable_parallel_tool_use is not True,
        sampling=body.sampling(),
        max_tokens=body.max_tokens,
        stop=stops,
    )


def ignored(body: PromptBody) -> list[str]:
    """Name what was given, is not null, and changes nothing here."""
    fields = body.given_extra()
    fields += [f"tools.{tool['type']}" for tool in body.tools or () if _is_anthropics(tool)]
    if body.thinking is not None and (body.thinking.model_extra or {}).get("budget_tokens") is not None:
        fields.append("thinking.budget_tokens")
    return sorted(set(fields))


def _prompt(body: PromptBody, canonical: Callable[[str], str]) -> dict[str, Any]:
    tools = [_tool(tool, f"tools.{n}") for n, tool in enumerate(body.tools or ()) if not _is_anthropics(tool)]
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "model": body.model or "",
        "messages": to_messages(body.system, body.messages, canonical),
        **_choice(body, tools),
        "form": _form(body),
        "template_kwargs": _template_kwargs(body),
    }


def _form(body: PromptBody) -> Grammar | None:
    """What the text is to be; the field that Anthropic had first is still sent by some."""
    config = body.output_config
    given = {"output_format": body.output_format, "output_config.format": config.format if config else None}
    formats = {name: format for name, format in given.items() if format is not None}
    if len(formats) > 1:
        raise InvalidRequest("Give output_config.format or output_format, and not both.", param="output_format")
    forms = [schema_form(format.type, format.json_schema, name, "schema") for name, format in formats.items()]
    return forms[0] if forms else None


def _choice(body: PromptBody, tools: Sequence[Json]) -> ToolFields:
    choice = body.tool_choice
    if choice is None:
        return tool_fields("auto", tools)
    if choice.type not in ("any", "tool"):
        return tool_fields("none" if choice.type == "none" else "auto", tools)
    if body.thinking is not None and body.thinking.type == "enabled":
        raise InvalidRequest(
            f"thinking cannot be enabled when tool_choice, {choice.type!r}, forces a call; leave one of them out.",
            param="thinking",
        )
    if choice.type == "tool" and choice.name is None:
        raise InvalidRequest("tool_choice of type 'tool' needs the name of one.", param="tool_choice.name")
    return tool_fields("required", tools, None if choice.name is None or choice.type == "any" else [choice.name])


def _template_kwargs(body: PromptBody) -> dict[str, Any]:
    named: dict[str, Any] = {}
    if body.thinking is not None and body.thinking.type in ENABLES_THINKING:
        named["enable_thinking"] = ENABLES_THINKING[body.thinking.type]
    if body.output_config is not None and body.output_config.effort is not None:
        named["reasoning_effort"] = body.output_config.effort
    return named | (body.chat_template_kwargs or {})


def _is_anthropics(tool: dict[str, Any]) -> bool:
    """Whether a tool is one that only Anthropic's models know, or its servers run."""
    return isinstance(tool.get("type"), str) and tool["type"] != "custom"


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise InvalidRequest(f"{where}.type must be a string.", param=f"{where}.type")
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise InvalidRequest(f"{where}.name must be a string that is not empty.", param=f"{where}.name")
    if not isinstance(tool.get("input_schema"), dict):
        raise InvalidRequest(f"{where}.input_schema must be an object.", param=f"{where}.input_schema")
    function: dict[str, Any] = {"name": tool["name"], "parameters": tool["input_schema"]}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    if tool.get("strict") is True:
        function["strict"] = True
    return {"type": "function", "function": function}

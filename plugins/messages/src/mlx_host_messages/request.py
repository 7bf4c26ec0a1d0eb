"""Converts request bodies to ChatRequest and rejects unsupported fields."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from mlx_host.api.text import ToolFields, schema_output_format, stop_strings, tool_fields
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Grammar
from mlx_host.requests import ChatRequest

from mlx_host_messages.content import Conversation
from mlx_host_messages.schema import MessagesBody, PromptBody
from mlx_host_messages.tools import HostedTool, OfferedTools, unavailable_tool

# Values of `enable_thinking` by type of `thinking`. With other types, the model decides.
ENABLE_THINKING = {"enabled": True, "disabled": False}


class ConvertedPrompt:
    """The fields of a body that determine the prompt. Raises InvalidRequestError."""

    def __init__(self, body: PromptBody, normalize: Callable[[str], str]) -> None:
        if body.compaction is not None:
            raise InvalidRequestError("compaction is not supported by this server; remove it.", param="compaction")
        choice = body.tool_choice
        self.id = f"msg_{uuid.uuid4().hex}"
        self.forced_tool = choice.name if choice is not None and choice.type == "tool" else None
        self.conversation = Conversation(body.system, body.messages, normalize)
        self.tools = OfferedTools(body.tools or (), self.conversation.tool_changes, self.forced_tool)
        self._body = body

    def unavailable(self) -> HostedTool | None:
        """Return the blocks of an unavailable hosted tool, if the model could not do without it."""
        choice = "auto" if self._body.tool_choice is None else self._body.tool_choice.type
        return unavailable_tool(self.tools, choice, self.forced_tool, f"srvtoolu_{uuid.uuid4().hex}")

    def fields(self) -> dict[str, Any]:
        """Return the fields of a ChatRequest."""
        body = self._body
        return {
            "id": self.id,
            "model": body.model or "",
            "messages": self.conversation.messages,
            "continue_final_message": self.conversation.continues,
            **self._tool_choice(),
            "output_format": _output_grammar(body),
            "template_kwargs": _template_kwargs(body),
        }

    def request(self) -> ChatRequest:
        """Return a request whose tokens can be counted."""
        return ChatRequest(**self.fields())

    @property
    def ignored(self) -> set[str]:
        """The blocks and tools of the conversation that the model does not get."""
        return self.conversation.ignored | self.tools.ignored

    def _tool_choice(self) -> ToolFields:
        body, tools = self._body, self.tools.functions
        choice = body.tool_choice
        if choice is None:
            return tool_fields("auto", tools)
        if choice.type not in ("any", "tool"):
            return tool_fields("none" if choice.type == "none" else "auto", tools)
        if body.thinking is not None and body.thinking.type == "enabled":
            raise InvalidRequestError(
                f"thinking cannot be enabled with tool_choice {choice.type!r}, which forces a call; remove one of "
                "them.",
                param="thinking",
            )
        if choice.type == "tool" and choice.name is None:
            raise InvalidRequestError(
                "tool_choice of type 'tool' requires the name of a tool.", param="tool_choice.name"
            )
        return tool_fields("required", tools, None if self.forced_tool is None else [self.forced_tool])


def to_request(body: MessagesBody, prompt: ConvertedPrompt) -> ChatRequest:
    """Convert a body, whose prompt is already converted. Raises InvalidRequestError for unsupported fields."""
    return ChatRequest(
        **prompt.fields(),
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


def _template_kwargs(body: PromptBody) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    if body.thinking is not None and body.thinking.type in ENABLE_THINKING:
        kwargs["enable_thinking"] = ENABLE_THINKING[body.thinking.type]
    if body.output_config is not None and body.output_config.effort is not None:
        kwargs["reasoning_effort"] = body.output_config.effort
    return kwargs | (body.chat_template_kwargs or {})

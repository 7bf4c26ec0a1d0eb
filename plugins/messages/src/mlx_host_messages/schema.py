"""The bodies of POST /v1/messages and /v1/messages/count_tokens.

Blocks and tools are validated where they are converted, with clearer messages than those of a union. Source: the
Anthropic SDK's `types/message_create_params.py`; sampling parameters that Anthropic lacks are those of the other APIs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mlx_host.api.text import SamplingBody, Tokens
from pydantic import BaseModel, ConfigDict, Field

Block = dict[str, Any]


class AnthropicMessage(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Thinking(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]


class ToolChoice(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Format(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    effort: str | None = None
    format: Format | None = None


class PromptBody(SamplingBody):
    """POST /v1/messages/count_tokens: the fields that determine the prompt."""

    model: str | None = None
    messages: Annotated[list[AnthropicMessage], Field(min_length=1)]
    system: str | list[Block] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class MessagesBody(PromptBody):
    """POST /v1/messages."""

    max_tokens: Tokens
    stop_sequences: list[str] | None = None
    stream: bool | None = None

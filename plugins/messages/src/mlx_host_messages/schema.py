"""The request bodies of POST /v1/messages and /v1/messages/count_tokens.

Content blocks and tools are validated on conversion, with clearer messages than those of a pydantic union. Source:
`types/message_create_params.py` of the Anthropic SDK; other sampling parameters are those of the other APIs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mlx_host.api.text import SamplingBody, TemplateKwargs, Tokens
from pydantic import BaseModel, ConfigDict, Field

Block = dict[str, Any]


class AnthropicMessage(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class ThinkingConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Tokens | None = None


class AnthropicToolChoice(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputFormat(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    effort: str | None = None
    format: OutputFormat | None = None


class PromptBody(SamplingBody):
    """The body of POST /v1/messages/count_tokens: the fields that determine the prompt."""

    model: str | None = None
    messages: Annotated[list[AnthropicMessage], Field(min_length=1)]
    system: str | list[Block] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: AnthropicToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    thinking_token_budget: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    chat_template_kwargs: TemplateKwargs | None = None


class MessagesBody(PromptBody):
    """The body of POST /v1/messages."""

    max_tokens: Tokens
    stop_sequences: list[str] | None = None
    stream: bool | None = None

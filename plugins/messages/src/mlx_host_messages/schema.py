"""The request bodies of POST /v1/messages and /v1/messages/count_tokens.

Content blocks and tools are validated on conversion, with clearer messages than those of a pydantic union. Source:
`types/message_create_params.py` of the Anthropic SDK; other sampling parameters are those of the other APIs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mlx_host.api.http import ByType, KnownFields
from mlx_host.api.text import SamplingBody, TemplateKwargs, Tokens
from pydantic import BaseModel, ConfigDict, Field

Block = dict[str, Any]

_BLOCKS: dict[str, KnownFields] = {}
BLOCK_FIELDS = ByType(_BLOCKS)
_SOURCES = {
    "base64": KnownFields("type", "media_type", "data"),
    "url": KnownFields("type", "url"),
    "text": KnownFields("type", "media_type", "data"),
    "content": KnownFields("type", content=BLOCK_FIELDS),
}
_BLOCKS |= {
    "text": KnownFields("type", "text"),
    "image": KnownFields("type", source=ByType(_SOURCES)),
    "document": KnownFields("type", source=ByType(_SOURCES)),
    "search_result": KnownFields("type", "title", "source", content=BLOCK_FIELDS),
    "thinking": KnownFields("type", "thinking"),
    "redacted_thinking": KnownFields("type"),
    "tool_use": KnownFields("type", "id", "name", "input"),
    "tool_result": KnownFields("type", "tool_use_id", content=BLOCK_FIELDS),
}
TOOL_FIELDS = ByType({"custom": KnownFields("type", "name", "description", "input_schema", "strict")}, "custom")


class AnthropicMessage(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["user", "assistant", "system"]
    content: Annotated[str | list[Block], BLOCK_FIELDS]


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
    """The fields that determine the prompt."""

    model: str | None = None
    messages: Annotated[list[AnthropicMessage], Field(min_length=1)]
    system: Annotated[str | list[Block] | None, BLOCK_FIELDS] = None
    tools: Annotated[list[dict[str, Any]] | None, TOOL_FIELDS] = None
    tool_choice: AnthropicToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    thinking_token_budget: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    chat_template_kwargs: TemplateKwargs | None = None

    def ignored(self) -> list[str]:
        """Return the paths of fields that are set and have no effect, with any model."""
        builtin = {f"tools.{tool['type']}" for tool in self.tools or () if is_builtin(tool)}
        # "adaptive" is the default: the model decides.
        thinking, unused = self.thinking, []
        if thinking is not None and thinking.type == "between_tools":
            unused.append("thinking.type")
        if thinking is not None and thinking.type != "enabled" and thinking.budget_tokens is not None:
            unused.append("thinking.budget_tokens")
        return sorted([*super().ignored(), *builtin, *unused])


class CountTokensBody(PromptBody):
    """The body of POST /v1/messages/count_tokens."""

    def ignored(self) -> list[str]:
        names = (*SamplingBody.model_fields, "thinking_token_budget")
        unused = [name for name in names if getattr(self, name) is not None]
        if self.thinking is not None and self.thinking.budget_tokens is not None:
            unused.append("thinking.budget_tokens")
        if self.tool_choice is not None and self.tool_choice.disable_parallel_tool_use is not None:
            unused.append("tool_choice.disable_parallel_tool_use")
        return sorted({*super().ignored(), *unused})


class MessagesBody(PromptBody):
    """The body of POST /v1/messages."""

    max_tokens: Tokens
    stop_sequences: list[str] | None = None
    stream: bool | None = None

    def ignored(self) -> list[str]:
        return sorted([*super().ignored(), *(["stop_sequences"] if "" in (self.stop_sequences or ()) else [])])


def is_builtin(tool: dict[str, Any]) -> bool:
    """Return whether Anthropic defines the tool or runs it on its servers."""
    return isinstance(tool.get("type"), str) and tool["type"] != "custom"

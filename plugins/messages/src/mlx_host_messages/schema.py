"""The request bodies of POST /v1/messages and /v1/messages/count_tokens.

Content blocks and tools are validated on conversion, with clearer messages than those of a pydantic union. Source:
`types/message_create_params.py` of the Anthropic SDK; other sampling parameters are those of the other APIs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from mlx_host.api.http import ByType, KnownFields
from mlx_host.api.text import SamplingBody, TemplateKwargs, Tokens
from pydantic import BaseModel, ConfigDict, Field

from mlx_host_messages.client_tools import is_client_tool, is_hosted

Block = dict[str, Any]

_BLOCKS: dict[str, KnownFields] = {}
BLOCK_FIELDS = ByType(_BLOCKS)
_SOURCES = {
    "base64": KnownFields("type", "media_type", "data"),
    "url": KnownFields("type", "url"),
    "text": KnownFields("type", "media_type", "data"),
    "content": KnownFields("type", content=BLOCK_FIELDS),
}


class _ToolFields(ByType):
    """The fields of tools with an input_schema, and of the tools that Anthropic defines and clients run."""

    CUSTOM = KnownFields("type", "name", "description", "input_schema", "strict", "defer_loading", "input_examples")
    CLIENT = KnownFields(
        *("type", "name", "strict", "defer_loading", "display_width_px", "display_height_px", "enable_zoom"),
        # Read by the clients that run these tools.
        *("display_number", "max_characters"),
    )

    def of(self, value: Mapping[str, Any]) -> KnownFields | None:
        if is_client_tool(value):
            return self.CLIENT
        return None if is_hosted(value) else self.CUSTOM


TOOL_FIELDS = _ToolFields({})
_CHANGED_TOOL = KnownFields(
    "type", "name", "tool_name", "input_schema", "description", "strict", definition=TOOL_FIELDS
)
_BLOCKS |= {
    "text": KnownFields("type", "text"),
    "image": KnownFields("type", source=ByType(_SOURCES)),
    "document": KnownFields("type", "title", "context", source=ByType(_SOURCES)),
    "search_result": KnownFields("type", "title", "source", content=BLOCK_FIELDS),
    "thinking": KnownFields("type", "thinking"),
    "tool_use": KnownFields("type", "id", "name", "input"),
    "server_tool_use": KnownFields("type", "id", "name", "input"),
    "mcp_tool_use": KnownFields("type", "id", "name", "input"),
    "tool_result": KnownFields("type", "tool_use_id", "is_error", content=BLOCK_FIELDS),
    "tool_reference": KnownFields("type", "tool_name"),
    "tool_addition": KnownFields("type", tool=_CHANGED_TOOL, tools=_CHANGED_TOOL),
    "tool_removal": KnownFields("type", tool=_CHANGED_TOOL, tools=_CHANGED_TOOL),
    "compaction": KnownFields("type", "content", tool_changes=BLOCK_FIELDS),
}


class AnthropicMessage(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: Annotated[str | list[Any] | None, BLOCK_FIELDS] = None
    clear_at: str | None = None


class ThinkingConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Tokens | None = None
    display: str | None = None


class ThreadConfig(BaseModel):
    """A conversation that the server stores: begin one, or continue after a stored message."""

    model_config = ConfigDict(extra="allow")

    type: Literal["create", "continue"]
    previous_message_id: str | None = None


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
    system: Annotated[str | list[Any] | None, BLOCK_FIELDS] = None
    tools: Annotated[list[dict[str, Any]] | None, TOOL_FIELDS] = None
    tool_choice: AnthropicToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    thinking_token_budget: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    thread: ThreadConfig | None = None

    # Rejected: the response would have another form.
    compaction: dict[str, Any] | None = None

    def ignored(self) -> list[str]:
        """Return the paths of the fields that are set but have no effect with any model."""
        hosted = {f"tools.{tool['type']}" for tool in self.tools or () if is_hosted(tool)}
        # "adaptive" is the default: the model decides.
        thinking, unused = self.thinking, []
        if thinking is not None and thinking.type == "between_tools":
            unused.append("thinking.type")
        if thinking is not None and thinking.type != "enabled" and thinking.budget_tokens is not None:
            unused.append("thinking.budget_tokens")
        if thinking is not None and thinking.display not in (None, "omitted", "summarized"):
            unused.append("thinking.display")
        if self.thread is not None and self.thread.type == "create" and self.thread.previous_message_id is not None:
            unused.append("thread.previous_message_id")
        return sorted([*super().ignored(), *hosted, *unused])


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

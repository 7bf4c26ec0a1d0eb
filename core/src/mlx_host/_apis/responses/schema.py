"""The bodies of POST /v1/responses and /v1/responses/input_tokens.

Items and tools are validated when they are converted, with clearer messages than pydantic's for a union.
Source: the OpenAI SDK's `types/responses/response_create_params.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mlx_host._apis.responses.items import ITEM_FIELDS
from mlx_host.api.common_fields import ConversationBody, Tokens
from mlx_host.api.ignored_fields import ByType, KnownFields
from mlx_host.api.response_format import TextFormat
from mlx_host.api.tool_choice import TOOL_CHOICE_FIELDS

Key = Annotated[str, StringConstraints(max_length=64)]
Value = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[Key, Value], Field(max_length=16)]

LOGPROBS = "message.output_text.logprobs"
ENCRYPTED_REASONING = "reasoning.encrypted_content"
SUMMARIES = ("auto", "concise", "detailed")
# Fields without effect on a compaction.
NOT_COMPACTED = (
    *("tools", "tool_choice", "parallel_tool_calls", "text", "structured_outputs", "truncation", "stream", "stop"),
    "prompt_cache_key",
)
# Fields that are returned in the response, and have no other effect.
ECHOED_ONLY = ("max_tool_calls", "prompt_cache_key", "safety_identifier")
_FUNCTION = KnownFields("type", "name", "description", "parameters", "strict")
_CUSTOM = KnownFields("type", "name", "description", format=KnownFields("type", "syntax", "definition"))
_NAMESPACE = KnownFields("type", "name", tools=ByType({"function": _FUNCTION, "custom": _CUSTOM}))
TOOL_FIELDS = ByType({"function": _FUNCTION, "custom": _CUSTOM, "namespace": _NAMESPACE})
PROMPT_FIELDS = (
    *("model", "input", "instructions", "previous_response_id", "tools", "tool_choice", "text", "reasoning"),
    *("enable_thinking", "chat_template_kwargs", "conversation"),
)


class TextConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ConversationReference(BaseModel):
    id: str


class InputBody(ConversationBody):
    """The fields that determine the prompt."""

    input: Annotated[str | list[dict[str, Any]] | None, ITEM_FIELDS] = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: Annotated[list[dict[str, Any]] | None, TOOL_FIELDS] = None
    tool_choice: Annotated[str | dict[str, Any] | None, TOOL_CHOICE_FIELDS] = None
    text: TextConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None
    conversation: str | ConversationReference | None = None

    # Rejected: it would change the response and is not supported.
    prompt: dict[str, Any] | None = None

    def conversation_id(self) -> str | None:
        """Return the id of the conversation that the request belongs to."""
        return self.conversation.id if isinstance(self.conversation, ConversationReference) else self.conversation

    def ignored(self) -> list[str]:
        verbosity = self.text.verbosity if self.text is not None else None
        return sorted([*super().ignored(), *(["text.verbosity"] if verbosity is not None else [])])


class ResponsesBody(InputBody):
    """POST /v1/responses."""

    max_output_tokens: Tokens | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    include: list[str] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    background: bool | None = None
    max_tool_calls: int | None = Field(None, ge=1, lt=2**63)
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    def reasoning_summary(self) -> str | None:
        """Return the kind of summary that was requested; the response never has one."""
        requested = (self.reasoning.model_extra or {}).get("summary") if self.reasoning is not None else None
        return requested if requested in SUMMARIES else None

    @property
    def encodes_reasoning(self) -> bool:
        """Whether reasoning items have `encrypted_content`."""
        return ENCRYPTED_REASONING in (self.include or ())

    @property
    def wants_logprobs(self) -> bool:
        """Whether the response includes log-probabilities."""
        return bool(self.top_logprobs) or LOGPROBS in (self.include or ())

    def ignored(self) -> list[str]:
        includes = [f"include.{name}" for name in self.include or () if name not in (LOGPROBS, ENCRYPTED_REASONING)]
        echoed = [name for name in ECHOED_ONLY if getattr(self, name) is not None]
        return sorted([*super().ignored(), *includes, *echoed])


class ConversationCreateBody(BaseModel):
    """POST /v1/conversations."""

    items: list[dict[str, Any]] | None = None
    metadata: Metadata | None = None


class ConversationUpdateBody(BaseModel):
    """POST /v1/conversations/{id}."""

    metadata: Metadata


class ItemsBody(BaseModel):
    """POST /v1/conversations/{id}/items."""

    items: list[dict[str, Any]]


class CompactBody(InputBody):
    """POST /v1/responses/compact; the model is required, unlike elsewhere."""

    model: str = Field(min_length=1)
    max_output_tokens: Tokens | None = None
    prompt_cache_key: str | None = None

    def ignored(self) -> list[str]:
        return sorted([*super().ignored(), *(name for name in NOT_COMPACTED if getattr(self, name) is not None)])


class InputTokensBody(InputBody):
    """POST /v1/responses/input_tokens."""

    def ignored(self) -> list[str]:
        unused = [name for name in InputTokensBody.model_fields if name not in PROMPT_FIELDS]
        return sorted([*super().ignored(), *(name for name in unused if getattr(self, name) is not None)])

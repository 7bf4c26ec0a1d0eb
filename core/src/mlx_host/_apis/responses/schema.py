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

LOGPROBS = "message.output_text.logprobs"
TOOL_FIELDS = ByType({"function": KnownFields("type", "name", "description", "parameters", "strict")})
PROMPT_FIELDS = (
    *("model", "input", "instructions", "previous_response_id", "tools", "tool_choice", "text", "reasoning"),
    *("enable_thinking", "chat_template_kwargs"),
)


class TextConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    format: TextFormat | None = None


class InputBody(ConversationBody):
    """The fields that determine the prompt."""

    input: Annotated[str | list[dict[str, Any]] | None, ITEM_FIELDS] = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: Annotated[list[dict[str, Any]] | None, TOOL_FIELDS] = None
    tool_choice: Annotated[str | dict[str, Any] | None, TOOL_CHOICE_FIELDS] = None
    text: TextConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None

    # Fields that are rejected: they would change the response and are not supported.
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None


class ResponsesBody(InputBody):
    """POST /v1/responses."""

    max_output_tokens: Tokens | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    include: list[str] | None = None
    metadata: Annotated[dict[Key, Value], Field(max_length=16)] | None = None
    store: bool | None = None
    background: bool | None = None

    @property
    def wants_logprobs(self) -> bool:
        """Whether the response includes log-probabilities."""
        return bool(self.top_logprobs) or LOGPROBS in (self.include or ())

    def ignored(self) -> list[str]:
        includes = [f"include.{name}" for name in self.include or () if name != LOGPROBS]
        return sorted([*super().ignored(), *includes])


class InputTokensBody(InputBody):
    """POST /v1/responses/input_tokens."""

    def ignored(self) -> list[str]:
        unused = [name for name in InputTokensBody.model_fields if name not in PROMPT_FIELDS]
        return sorted([*super().ignored(), *(name for name in unused if getattr(self, name) is not None)])

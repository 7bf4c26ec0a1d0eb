"""The body of POST /v1/chat/completions.

Every field may be null, which means its default. Unknown fields are accepted; `ignored` lists those without effect.
Source: the OpenAI SDK's `types/chat/completion_create_params.py`, and vLLM for additional fields.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from mlx_host.api.chat_messages import Messages, PromptEnd, Tools
from mlx_host.api.common_fields import ConversationBody, StreamOptions, Tokens
from mlx_host.api.response_format import ResponseFormat
from mlx_host.api.tool_choice import TOOL_CHOICE_FIELDS
from mlx_host.errors import InvalidRequestError


class ChatBody(ConversationBody, PromptEnd):
    """POST /v1/chat/completions."""

    messages: Messages

    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    max_completion_tokens: Tokens | None = None
    n: int | None = Field(None, ge=1, le=128)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    tools: Tools | None = None
    tool_choice: Annotated[str | dict[str, Any] | None, TOOL_CHOICE_FIELDS] = None
    response_format: ResponseFormat | None = None

    reasoning_effort: str | None = None

    # Fields that are rejected: they would change the response and are not supported.
    functions: list[Any] | None = None
    audio: dict[str, Any] | None = None
    modalities: list[str] | None = None
    web_search_options: dict[str, Any] | None = None

    def token_limit(self) -> int | None:
        """Return `max_tokens`, or None (no limit) if it is -1; raises InvalidRequestError if it is 0."""
        if self.max_tokens == 0:
            raise InvalidRequestError("max_tokens must be at least 1, or -1 for no limit; got 0.", param="max_tokens")
        return None if self.max_tokens == -1 else self.max_tokens

    def ignored(self) -> list[str]:
        fields = super().ignored()
        if self.stream_options is not None and not self.stream:
            fields.append("stream_options")
        if self.max_completion_tokens is not None and self.max_tokens not in (None, self.max_completion_tokens):
            # OpenAI has deprecated it in favour of `max_completion_tokens`.
            fields.append("max_tokens")
        return sorted(fields)

"""The body of POST /v1/chat/completions, as clients send it.

Every field may be null, which means its default. Unknown fields are accepted; what changes nothing is listed by
`ignored`. Source: the OpenAI SDK's `types/chat/completion_create_params.py`, and vLLM's names for what OpenAI lacks.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from mlx_host.api.common_fields import ConversationBody, Tokens
from mlx_host.api.response_format import ResponseFormat


class FunctionCall(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    name: str
    arguments: str | dict[str, Any] | None


class MessageToolCall(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    id: str | None
    type: str | None
    function: FunctionCall


class Message(TypedDict, total=False):
    """A message of the conversation; kept as the mapping it is, whatever else it holds."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None
    tool_calls: list[MessageToolCall] | None
    tool_call_id: str | None
    name: str | None


def _complete(messages: list[Message]) -> list[Message]:
    for number, message in enumerate(messages):
        if "role" not in message:
            raise ValueError(f"message {number} has no role")
        # An assistant's content may be missing: it may have called tools, or only thought.
        if message["role"] not in ("assistant", "function") and message.get("content") is None:
            raise ValueError(f"message {number} ({message['role']}) has no content")
    return messages


Messages = Annotated[list[Message], Field(min_length=1), AfterValidator(_complete)]


class Function(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["function"] = "function"
    function: Function


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = None


class ChatBody(ConversationBody):
    """POST /v1/chat/completions."""

    messages: Messages

    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n: int | None = Field(None, ge=1, le=128)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None

    reasoning_effort: str | None = None

    # What would change the answer if it were honoured, and is not.
    functions: list[Any] | None = None
    audio: dict[str, Any] | None = None
    modalities: list[str] | None = None
    web_search_options: dict[str, Any] | None = None

    def ignored(self) -> list[str]:
        """Name the fields that were given, not null, and change nothing here."""
        fields = self.given_extra()
        if self.stream_options is not None and not self.stream:
            fields.append("stream_options")
        return sorted(fields)

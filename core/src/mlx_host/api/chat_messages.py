"""Messages and tools in OpenAI's format, as accepted by chat completions and `/tokenize`.

Source: the OpenAI SDK's `types/chat/chat_completion_message_param.py` and `chat_completion_tool_param.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from mlx_host.api.custom_tools import custom_arguments, custom_function
from mlx_host.api.ignored_fields import ByType, KnownFields
from mlx_host.errors import InvalidRequestError

# No real conversation is this long; the limits bound the time for validation.
MAX_MESSAGES = 100_000
MAX_TOOLS = 10_000


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
    """A message of a conversation; unknown fields are kept for the chat template."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None
    tool_calls: list[MessageToolCall] | None
    tool_call_id: str | None
    name: str | None
    function_call: FunctionCall | None


def _complete(messages: list[Message]) -> list[Message]:
    for number, message in enumerate(messages):
        if "role" not in message:
            raise _missing(f"messages[{number}].role")
        # An assistant message may have only tool calls or reasoning, and a tool may have no output.
        if message["role"] not in ("assistant", "function", "tool") and message.get("content") is None:
            raise _missing(f"messages[{number}].content")
    return messages


def _missing(field: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: is required.", param=field)


_TEXT = KnownFields("type", "text")
CONTENT_PARTS = ByType(
    {
        "text": _TEXT,
        "input_text": _TEXT,
        "output_text": _TEXT,
        "refusal": KnownFields("type", "refusal"),
        "image_url": KnownFields("type", image_url=KnownFields("url", "detail")),
        "input_audio": KnownFields("type", input_audio=KnownFields("data", "format")),
    }
)
MESSAGE_FIELDS = KnownFields(
    *("role", "name", "tool_call_id", "reasoning_content", "reasoning", "thinking"),
    content=CONTENT_PARTS,
    function_call=KnownFields("name", "arguments"),
    tool_calls=KnownFields(
        "id", "type", function=KnownFields("name", "arguments"), custom=KnownFields("name", "input")
    ),
)

Messages = Annotated[
    list[Message], Field(min_length=1, max_length=MAX_MESSAGES), AfterValidator(_complete), MESSAGE_FIELDS
]


class Function(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    # Schemas of the result, which the templates of some families describe to the model.
    result: dict[str, Any] | None = Field(None, alias="return")
    response: dict[str, Any] | None = None


class CustomDefinition(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1)
    description: str | None = None
    format: dict[str, Any] | None = None


class Tool(BaseModel):
    """A function, or a tool that takes free text."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function", "custom"] = "function"
    function: Function | None = None
    custom: CustomDefinition | None = None


def _defined(tools: list[Tool]) -> list[Tool]:
    for number, tool in enumerate(tools):
        if getattr(tool, tool.type) is None:
            raise _missing(f"tools[{number}].{tool.type}")
    return tools


Tools = Annotated[list[Tool], Field(max_length=MAX_TOOLS), AfterValidator(_defined)]


def request_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Convert messages for a ChatRequest: without null fields, and with the role `system` for `developer`."""
    return [_message(dict(message)) for message in messages]


def _message(message: dict[str, Any]) -> dict[str, Any]:
    # SDKs serialize a response's message with null for every field that it did not have.
    kept = {key: value for key, value in message.items() if value is not None or key == "content"}
    if kept["role"] == "tool" and kept.get("content") is None:
        kept["content"] = ""
    if kept["role"] == "developer":
        kept["role"] = "system"
    if kept.get("tool_calls"):
        kept["tool_calls"] = [_call(call) for call in kept["tool_calls"]]
    return kept


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """Convert a call to a custom tool to a call to the function that represents it."""
    match call:
        case {"type": "custom", "custom": {"name": str() as name, "input": str() as text}}:
            function = {"name": name, "arguments": custom_arguments(text)}
            return {"id": call.get("id"), "type": "function", "function": function}
    return call


def request_tools(tools: Sequence[Tool] | None) -> list[dict[str, Any]]:
    """Convert tools for a ChatRequest, without unknown fields: templates would show them to the model.

    A custom tool becomes a function with one string.
    """
    return [_tool(tool, f"tools[{index}].custom") for index, tool in enumerate(tools or ())]


def custom_names(tools: Sequence[Tool] | None) -> frozenset[str]:
    """Return the names of the custom tools."""
    return frozenset(tool.custom.name for tool in tools or () if tool.type == "custom" and tool.custom is not None)


def _tool(tool: Tool, where: str) -> dict[str, Any]:
    if tool.type == "custom" and tool.custom is not None:
        function = custom_function(tool.custom.model_dump(exclude_unset=True), where)
        return {"type": "function", "function": {"name": tool.custom.name, **function}}
    unknown: dict[str, Any] = dict.fromkeys((*(tool.model_extra or ()), "custom"), True)
    unknown["function"] = set((tool.function and tool.function.model_extra) or ())
    return tool.model_dump(by_alias=True, exclude_unset=True, exclude=unknown)


class PromptEnd(BaseModel):
    """The fields that determine how the prompt of a conversation ends."""

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    def prompt_end(self, messages: Sequence[Message]) -> dict[str, Any]:
        """Return the arguments of ChatRequest; InvalidRequestError if they exclude each other or the last message."""
        continues = self.continue_final_message is True
        if continues and self.add_generation_prompt:
            raise InvalidRequestError(
                "continue_final_message and add_generation_prompt cannot both be true.", param="continue_final_message"
            )
        if continues and (messages[-1]["role"] != "assistant" or messages[-1].get("tool_calls")):
            raise InvalidRequestError(
                "continue_final_message requires that the last message is from the assistant and has no tool_calls.",
                param="continue_final_message",
            )
        return {
            "continue_final_message": continues,
            "add_generation_prompt": not continues and self.add_generation_prompt is not False,
        }

"""Translates the body of POST /v1/responses to a ChatRequest, and rejects unsupported fields."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from mlx_host._apis.responses.chat_messages import Conversation, to_conversation
from mlx_host._apis.responses.items import Item, new_id
from mlx_host._apis.responses.schema import InputBody, ResponsesBody
from mlx_host._apis.responses.tools import ToolCatalog
from mlx_host.api.tool_choice import choose
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ChatRequest


@dataclass(frozen=True)
class TranslatedRequest:
    """A chat request, with what is needed to translate its output and its errors back."""

    chat: ChatRequest
    catalog: ToolCatalog
    conversation: Conversation

    @property
    def ignored(self) -> list[str]:
        """The tools, items and parts that were dropped."""
        return [*self.catalog.ignored, *self.conversation.ignored]


def to_request(
    body: ResponsesBody, history: Sequence[Item], items: Sequence[Item], modalities: Collection[str] | None = None
) -> TranslatedRequest:
    """Convert a body whose input is `items`, after `history`; InvalidRequestError names an unsupported field."""
    translated = to_prompt(body, history, items, modalities)
    chat = replace(
        translated.chat,
        priority=body.queue_priority(),
        stream_tool_arguments=body.stream is True,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        sampling=body.sampling(),
        max_tokens=body.max_output_tokens,
        max_reasoning_tokens=body.max_reasoning_tokens(),
        stop=body.stops(),
        include_stop=body.include_stop_str_in_output is True,
        cache_salt=body.cache_salt,
        top_logprobs=(body.top_logprobs or 0) if body.wants_logprobs else None,
    )
    return replace(translated, chat=chat)


def to_prompt(
    body: InputBody, history: Sequence[Item], items: Sequence[Item], modalities: Collection[str] | None = None
) -> TranslatedRequest:
    """Convert the fields that determine the prompt."""
    if body.prompt:
        raise InvalidRequestError("prompt is not supported by this server.", param="prompt")
    format = body.text.format if body.text is not None else None
    catalog = ToolCatalog()
    catalog.add_all(body.tools or (), "tools")
    conversation_items = [*history, *items]
    catalog.add_found(conversation_items)
    conversation = to_conversation(
        body.instructions, conversation_items, catalog, history=len(history), modalities=modalities
    )
    if not conversation.messages:
        raise InvalidRequestError("input is missing; send a string or a list of items.", param="input")
    chat = ChatRequest(
        id=new_id("resp"),
        model=body.model or "",
        messages=conversation.messages,
        **choose(catalog.choice(body.tool_choice), catalog.functions),
        output_format=body.output_format(format.output_format() if format is not None else None, "text.format"),
        template_kwargs=body.template_kwargs(None),
    )
    return TranslatedRequest(chat, catalog, conversation)

"""Encodes messages as server-sent events or as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.responses import Response
from mlx_host.api import ChatEvent, Reply
from mlx_host.api.http import Collector, Encoder, JsonResponse, Message, Messages, dumps
from mlx_host.errors import RequestError

from mlx_host_messages.errors import error_body
from mlx_host_messages.message_builder import AnthropicMessageBuilder, Event


class MessageEncoder(Encoder[ChatEvent]):
    """Encodes a message as named server-sent events."""

    def __init__(self, reply: Reply[ChatEvent]) -> None:
        self._builder = AnthropicMessageBuilder.of(reply)

    def encode(self, events: Sequence[ChatEvent]) -> Messages:
        return _messages(self._builder.add(events))

    async def finish(self) -> Messages:
        return _messages(self._builder.complete())

    async def fail(self, error: RequestError) -> Messages:
        return [Message(dumps(error_body(error)), "error")]


def _messages(events: list[Event]) -> Messages:
    return [Message(dumps(event), event["type"]) for event in events]


class MessageCollector(Collector[ChatEvent]):
    """Collects a message and returns it as one JSON object."""

    def __init__(self, reply: Reply[ChatEvent]) -> None:
        self._builder = AnthropicMessageBuilder.of(reply)

    def add(self, events: Sequence[ChatEvent]) -> None:
        self._builder.add(events)

    async def response(self) -> Response:
        self._builder.complete()
        return JsonResponse(self._builder.message)

"""Encodes messages as server-sent events or as one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi.responses import Response
from mlx_host.api import ChatEvent
from mlx_host.api.http import SSE, Collector, Encoder, JsonResponse, Message, Messages, dumps
from mlx_host.errors import RequestError

from mlx_host_messages.errors import error_body
from mlx_host_messages.message_builder import AnthropicMessageBuilder, Event

Store = Callable[[dict[str, Any]], None]


class MessageEncoder(Encoder[ChatEvent]):
    """Encodes a message as named server-sent events; `store` is called with the complete message."""

    def __init__(self, builder: AnthropicMessageBuilder, store: Store) -> None:
        self._builder = builder
        self._store = store

    def encode(self, events: Sequence[ChatEvent]) -> Messages:
        return _messages(self._builder.add(events))

    async def finish(self) -> Messages:
        messages = _messages(self._builder.complete())
        self._store(self._builder.message)
        return messages

    async def fail(self, error: RequestError) -> Messages:
        return [Message(dumps(error_body(error)), "error")]


def _messages(events: list[Event]) -> Messages:
    return [Message(dumps(event), event["type"]) for event in events]


class MessageCollector(Collector[ChatEvent]):
    """Collects a message and returns it as one JSON object; `store` is called with it."""

    def __init__(self, builder: AnthropicMessageBuilder, store: Store) -> None:
        self._builder = builder
        self._store = store

    def add(self, events: Sequence[ChatEvent]) -> None:
        self._builder.add(events)

    async def response(self) -> Response:
        self._builder.complete()
        self._store(self._builder.message)
        return JsonResponse(self._builder.message)


def event_stream(events: list[Event]) -> Response:
    """Return the response that streams a message whose events are complete."""
    return Response(b"".join(map(SSE.frame, _messages(events))), media_type=SSE.media_type)

"""Encodes a response as a stream of events or as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.responses import Response

from mlx_host._apis.responses.builder import ResponseBuilder, ResponseCancelledError
from mlx_host._apis.responses.items import Item
from mlx_host._apis.responses.output_items import Event
from mlx_host._apis.responses.service import ResponseService
from mlx_host.api import ChatEvent
from mlx_host.api.http import Collector, Encoder, JsonResponse, Message, Messages, dumps
from mlx_host.errors import RequestError


class ResponseEncoder(Encoder[ChatEvent]):
    """Encodes a response as named events; it is stored before the last event, so that the next request finds it."""

    def __init__(self, builder: ResponseBuilder, items: Sequence[Item], responses: ResponseService) -> None:
        self._builder = builder
        self._items = items
        self._responses = responses

    def encode(self, events: Sequence[ChatEvent]) -> Messages:
        return _messages(self._builder.add(events))

    async def finish(self) -> Messages:
        return await self._last(self._builder.complete())

    async def fail(self, error: RequestError) -> Messages:
        return await self._last(self._builder.fail(error))

    async def _last(self, events: list[Event]) -> Messages:
        await self._responses.store(self._builder.response, self._items)
        return _messages(events)


def _messages(events: list[Event]) -> Messages:
    return [Message(dumps(event), event["type"]) for event in events]


class ResponseCollector(Collector[ChatEvent]):
    """Collects a response into one object, and stores it."""

    def __init__(self, builder: ResponseBuilder, items: Sequence[Item], responses: ResponseService) -> None:
        self._builder = builder
        self._items = items
        self._responses = responses

    def add(self, events: Sequence[ChatEvent]) -> None:
        self._builder.add(events)

    async def response(self) -> Response:
        self._builder.complete()
        return await self._stored()

    async def fail(self, error: RequestError) -> Response | None:
        is_cancelled = isinstance(error, ResponseCancelledError)
        if self._builder.is_pending and not is_cancelled:
            return None
        self._builder.fail(error)
        response = await self._stored()
        return response if is_cancelled else None

    async def _stored(self) -> Response:
        await self._responses.store(self._builder.response, self._items)
        return JsonResponse(self._builder.response)

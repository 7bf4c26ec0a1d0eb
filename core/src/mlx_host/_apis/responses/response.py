"""Encodes a response as a stream of events or as one JSON object."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from fastapi.responses import Response

from mlx_host._apis.responses.builder import ResponseBuilder, ResponseCancelledError
from mlx_host._apis.responses.items import Item
from mlx_host._apis.responses.output_items import Event
from mlx_host._apis.responses.service import ResponseService
from mlx_host.api import ChatEvent, ModelStatus, Reply
from mlx_host.api.http import Collector, Encoder, JsonResponse, Message, Messages, dumps
from mlx_host.errors import RequestError
from mlx_host.events import Progress
from mlx_host.requests import Request as ModelRequest

# Seconds between keep-alive comments of a stream that follows a response of another request.
KEEP_ALIVE = 15.0


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


class FollowingReply:
    """A reply of messages that another client's request, or a finished one, has produced; see `mlx_host.api.Reply`.

    `source` is the reply that is still running, for its progress.
    """

    warning: str | None = None

    def __init__(self, source: Reply[ChatEvent] | None, messages: AsyncIterator[list[Message]]) -> None:
        self._source = source
        self._messages = messages

    @property
    def keep_alive(self) -> float:
        return self._source.keep_alive if self._source is not None else KEEP_ALIVE

    @property
    def progress(self) -> Progress | None:
        return self._source.progress if self._source is not None else None

    @property
    def model(self) -> ModelStatus:
        raise NotImplementedError("a reply of messages has no model")

    @property
    def request(self) -> ModelRequest:
        raise NotImplementedError("a reply of messages has no request")

    @property
    def prompt_tokens(self) -> int:
        return 0

    @property
    def cached_tokens(self) -> int:
        return 0

    @property
    def completion_tokens(self) -> int:
        return 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Message]:
        return await anext(self._messages)


class EventLogEncoder(Encoder[Message]):
    """Sends messages as they are."""

    def encode(self, events: Sequence[Message]) -> Messages:
        return events

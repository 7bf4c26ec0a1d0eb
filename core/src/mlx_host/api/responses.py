"""POST /v1/responses and what belongs to it: OpenAI's other dialect of a conversation, with a memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response as HttpResponse

from mlx_host.api import sse
from mlx_host.api.chat_answer import sign_of_life, warning_comment, warning_header
from mlx_host.api.door import MEGABYTE
from mlx_host.api.responses_answer import Response, frame
from mlx_host.api.responses_input import Item, read_items
from mlx_host.api.responses_request import to_request
from mlx_host.api.responses_schema import InputBody, ResponsesBody
from mlx_host.api.responses_store import Kept, ResponseStore, StoreLimits
from mlx_host.api.wire import JsonResponse, ignored_header
from mlx_host.errors import InvalidRequest, RequestError
from mlx_host.host import Host
from mlx_host.host.answer import AnswerEvent

Batches = AsyncGenerator[list[AnswerEvent], None]


class ResponseNotFound(InvalidRequest):
    """No response with this id is kept here."""

    status = 404
    code = "response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"Response with id {id!r} not found: it is unknown, deleted, expired or was not stored.")


class PreviousNotFound(InvalidRequest):
    """The response that a request goes on from is not kept here."""

    code = "previous_response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"Previous response with id {id!r} not found: it is unknown, deleted, expired or was not stored. "
            "Send the whole conversation as input.",
            param="previous_response_id",
        )


class Memory:
    """The store as requests use it, off the event loop."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store

    async def read(self, body: InputBody) -> tuple[list[Item], list[Item]]:
        """What was said before a request, and what it says itself."""
        return await asyncio.to_thread(self._read, body)

    def _read(self, body: InputBody) -> tuple[list[Item], list[Item]]:
        before: list[Item] = []
        if body.previous_response_id:
            before = self._before(body.previous_response_id)
        return before, read_items(body.input, self._store.item)

    def _before(self, id: str) -> list[Item]:
        conversation = self._store.conversation(id)
        if not conversation:
            raise PreviousNotFound(id)
        if (missing := conversation[0].previous) is not None:
            raise PreviousNotFound(missing)
        return [item for kept in conversation for item in (*kept.input, *kept.response["output"])]

    async def keep(self, response: dict[str, Any], input: list[Item]) -> None:
        """Keep a response, unless it was not asked for; says so in the response where it is too large."""
        if response["store"]:
            response["store"] = await asyncio.to_thread(self._store.put, Kept(response, input))

    async def get(self, id: str) -> Kept:
        kept = await asyncio.to_thread(self._store.get, id)
        if kept is None:
            raise ResponseNotFound(id)
        return kept

    async def input_of(self, id: str) -> list[Item]:
        """All items that a response is the answer to, as far as they are kept."""
        conversation = await asyncio.to_thread(self._store.conversation, id)
        if not conversation:
            raise ResponseNotFound(id)
        *before, last = conversation
        return [item for kept in before for item in (*kept.input, *kept.response["output"])] + last.input

    async def delete(self, id: str) -> None:
        if not await asyncio.to_thread(self._store.delete, id):
            raise ResponseNotFound(id)


async def collect(batches: Batches, response: Response, memory: Memory, input: list[Item]) -> None:
    """Add the stream up to one response, and keep it."""
    async for batch in batches:
        response.take(batch)
    await memory.keep(response.whole, input)


async def stream(batches: Batches, response: Response, memory: Memory, input: list[Item]) -> sse.Pieces:
    """Say each step of a response; it is kept before its end is told, so that the next request may refer to it."""
    try:
        async with aclosing(batches):
            async for batch in batches:
                events = response.take(batch)
                if response.over:
                    await memory.keep(response.whole, input)
                    yield warning_comment(response.warning)
                yield "".join(map(sse.named, events))
                yield sign_of_life(batch)
    except RequestError as error:
        if not response.begun:
            raise
        events = response.fail(error)
        await memory.keep(response.whole, input)
        yield "".join(map(sse.named, events))


def page(items: list[Item], after: str | None, limit: int) -> dict[str, Any]:
    """OpenAI's list of at most `limit` items, beginning behind the item `after`."""
    start = 0
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest(f"after: there is no item with id {after!r}.", param="after")
        start = ids.index(after) + 1
    shown = items[start : start + limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else "",
        "last_id": shown[-1]["id"] if shown else "",
        "has_more": start + limit < len(items),
    }


def routes(router: APIRouter, host: Host) -> None:
    """Add the endpoints."""
    settings = host.settings
    limits = StoreLimits(
        settings.response_store_entries, int(settings.response_store_mb * MEGABYTE), settings.response_store_ttl
    )
    memory = Memory(ResponseStore(settings.response_store, limits))

    @router.post("/v1/responses", response_model=None)
    async def create(body: ResponsesBody, http: Request) -> HttpResponse:
        before, input = await memory.read(body)
        request = to_request(body, [*before, *input])
        response = Response(frame(body, request.id, host.model(request.model).name))
        headers = ignored_header(body.ignored())
        streams = body.stream is True
        batches = host.chat(request, streams=streams)
        if streams:
            return sse.EventStream(stream(batches, response, memory, input), headers, settings.keep_alive)
        async with aclosing(batches):
            await sse.while_connected(http.receive, collect(batches, response, memory, input))
        return JsonResponse(response.whole, headers={**headers, **warning_header(response.warning)})

    @router.get("/v1/responses/{id}", response_model=None)
    async def retrieve(id: str, stream: bool = False) -> HttpResponse:
        if stream:
            raise InvalidRequest(
                "Only the whole response is kept, not its stream; stream must be false.", param="stream"
            )
        return JsonResponse((await memory.get(id)).response)

    @router.delete("/v1/responses/{id}")
    async def delete(id: str) -> dict[str, Any]:
        await memory.delete(id)
        return {"id": id, "object": "response", "deleted": True}

    @router.get("/v1/responses/{id}/input_items", response_model=None)
    async def input_items(
        id: str,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> HttpResponse:
        items = await memory.input_of(id)
        return JsonResponse(page(items[::-1] if order == "desc" else items, after, limit))

"""POST /v1/responses and what belongs to it: OpenAI's other dialect of a conversation, with a memory."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response as HttpResponse

from mlx_host._apis.chat.response import sign_of_life, warning_comment, warning_header
from mlx_host._apis.responses.input import Item
from mlx_host._apis.responses.request import blaming_input, to_prompt, to_request
from mlx_host._apis.responses.response import Response, ResponseCancelled, frame
from mlx_host._apis.responses.schema import InputTokensBody, ResponsesBody
from mlx_host._apis.responses.service import Memory
from mlx_host._apis.responses.store import ResponseStore, StoreLimits
from mlx_host._apis.responses.truncation import Batches, truncated
from mlx_host._host import Host
from mlx_host._http.middleware import MEGABYTE
from mlx_host.api import sse
from mlx_host.api.common_fields import idle_strict
from mlx_host.api.json_io import JsonResponse, ignored_header
from mlx_host.api.prompt_tokens import count_prompt_tokens
from mlx_host.errors import InvalidRequest, RequestError


async def collect(batches: Batches, response: Response, memory: Memory, input: list[Item]) -> None:
    """Add the stream up to one response, and keep it."""
    with blaming_input():
        async for batch in batches:
            response.take(batch)
    await memory.keep(response.whole, input)


async def stream(batches: Batches, response: Response, memory: Memory, input: list[Item]) -> sse.Pieces:
    """Say each step of a response; it is kept before its end is told, so that the next request may refer to it."""
    with memory.run(response):
        try:
            with blaming_input():
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
        settings.response_store_entries, settings.response_store_mb * MEGABYTE, settings.response_store_ttl
    )
    memory = Memory(ResponseStore(settings.response_store, limits))
    _asking(router, host, memory)
    _kept(router, host, memory)


def _asking(router: APIRouter, host: Host, memory: Memory) -> None:
    """Add the endpoints that put something to a model."""

    @router.post("/v1/responses", response_model=None)
    async def create(body: ResponsesBody, http: Request) -> HttpResponse:
        before, input = await memory.read(body)
        request = to_request(body, [*before, *input])
        model = host.model(request.model)
        response = Response(frame(body, request.id, model.name))
        headers = ignored_header(sorted([*body.ignored(), *idle_strict(request, model)]))
        streams = body.stream is True
        chat = partial(host.chat, streams=streams)
        batches = truncated(chat, request) if body.truncation == "auto" else chat(request)
        if streams:
            return sse.EventStream(stream(batches, response, memory, input), headers, host.settings.keep_alive)
        async with aclosing(batches):
            await sse.while_connected(http.receive, collect(batches, response, memory, input))
        return JsonResponse(response.whole, headers={**headers, **warning_header(response.warning)})

    @router.post("/v1/responses/input_tokens", response_model=None)
    async def input_tokens(body: InputTokensBody, http: Request) -> HttpResponse:
        before, input = await memory.read(body)
        request = to_prompt(body, [*before, *input])
        with blaming_input():
            count = await sse.while_connected(http.receive, count_prompt_tokens(host, request))
        return JsonResponse(
            {"object": "response.input_tokens", "input_tokens": count}, headers=ignored_header(body.ignored())
        )


def _kept(router: APIRouter, host: Host, memory: Memory) -> None:
    """Add the endpoints for responses by their ids."""

    @router.get("/v1/responses/{id}", response_model=None)
    async def retrieve(id: str, stream: bool = False) -> HttpResponse:
        if stream:
            raise InvalidRequest(
                "Only the whole response is kept, not its stream; stream must be false.", param="stream"
            )
        return JsonResponse(await memory.get(id))

    @router.post("/v1/responses/{id}/cancel", response_model=None)
    async def cancel(id: str) -> HttpResponse:
        whole = await memory.get(id)
        reason = ResponseCancelled("The response was cancelled.")
        if not any(model.end(id, reason) for model in host.models.values()):
            raise InvalidRequest(f"The response {id!r} is over; only one that is being streamed can be cancelled.")
        return JsonResponse({**whole, "status": "cancelled"})

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

"""The endpoints below /v1/responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from mlx_host._apis.responses import ResponsesSettings
from mlx_host._apis.responses.builder import ResponseBuilder, ResponseCancelledError, new_response
from mlx_host._apis.responses.examples import (
    CANCELLED,
    DELETED,
    INPUT_ITEMS,
    INPUT_TOKENS,
    PROMPT,
    REQUEST,
    RESPONSE,
    STREAM,
)
from mlx_host._apis.responses.items import Item
from mlx_host._apis.responses.request import to_prompt, to_request
from mlx_host._apis.responses.response import ResponseCollector, ResponseEncoder
from mlx_host._apis.responses.schema import InputTokensBody, ResponsesBody
from mlx_host._apis.responses.service import ResponseService
from mlx_host._apis.responses.store import ResponseStore, StoreLimits
from mlx_host._apis.responses.truncation import truncated
from mlx_host.api import ChatEvent, Deadline, Endpoints, Reply, Service
from mlx_host.api.http import (
    JsonResponse,
    caller,
    examples,
    ignored_header,
    new_router,
    openai_error,
    respond,
    while_connected,
)
from mlx_host.api.text import ignored_by_model
from mlx_host.errors import InvalidRequestError, RequestError
from mlx_host.requests import ChatRequest

MEGABYTE = 1_000_000
# The variables of the chat template by the fields that set each.
VARIABLES = {
    "reasoning_effort": ("reasoning.effort",),
    "enable_thinking": ("enable_thinking", "thinking.type"),
    "documents": ("documents",),
}


class ResponsesEndpoints(Endpoints):
    """The endpoints of the Responses API; `_responses` is set during the lifespan."""

    _responses: ResponseService

    def __init__(self, service: Service, settings: ResponsesSettings) -> None:
        self._service = service
        self._settings = settings

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        settings = self._settings
        limits = StoreLimits(settings.store_entries, settings.store_mb * MEGABYTE, settings.store_ttl)
        self._responses = ResponseService(ResponseStore(settings.store, limits))
        try:
            yield
        finally:
            self._responses.close()

    def error(self, error: RequestError) -> Response:
        # The model's errors name the field of the chat request.
        if error.param == "messages":
            error.param = "input"
        return openai_error(error)

    def router(self) -> APIRouter:
        router = new_router()
        create = examples(REQUEST, RESPONSE, stream=STREAM)
        count = examples(PROMPT, INPUT_TOKENS)
        router.post("/v1/responses", response_model=None, **create)(self.create)
        router.post("/v1/responses/input_tokens", response_model=None, **count)(self.input_tokens)
        one = "/v1/responses/{id}"
        router.get(one, response_model=None, **examples(response=RESPONSE))(self.retrieve)
        router.delete(one, response_model=None, **examples(response=DELETED))(self.delete)
        router.post(f"{one}/cancel", response_model=None, **examples(response=CANCELLED))(self.cancel)
        router.get(f"{one}/input_items", response_model=None, **examples(response=INPUT_ITEMS))(self.input_items)
        return router

    async def create(self, body: ResponsesBody, http: Request) -> Response:
        """Create a response, as one object or as a stream."""
        history, items = await self._responses.read(body)
        reply = self._reply(body, to_request(body, [*history, *items]), http)
        prepared = reply.request
        assert isinstance(prepared, ChatRequest)
        headers = ignored_header(ignored_by_model(body, prepared, reply.model, VARIABLES, body.reasoning_limits()))
        builder = ResponseBuilder(new_response(body, prepared.id, reply.model.name))
        output = ResponseEncoder if body.stream else ResponseCollector
        return await respond(
            http,
            reply,
            output(builder, items, self._responses),
            headers,
            during=self._responses.in_progress(builder),
        )

    def _reply(self, body: ResponsesBody, request: ChatRequest, http: Request) -> Reply[ChatEvent]:
        deadline = Deadline.of(stream=body.stream is True)

        def chat(request: ChatRequest) -> Reply[ChatEvent]:
            return self._service.chat(request, caller=caller(http), deadline=deadline)

        return truncated(chat, request) if body.truncation == "auto" else chat(request)

    async def input_tokens(self, body: InputTokensBody, http: Request) -> Response:
        """Count the tokens of a request's prompt."""
        history, items = await self._responses.read(body)
        request = to_prompt(body, [*history, *items])
        ignored = ignored_by_model(body, request, self._service.model(request.model, caller(http)), VARIABLES)
        counting = self._service.count_tokens(request, caller=caller(http))
        count = await while_connected(http.receive, counting)
        content = {"object": "response.input_tokens", "input_tokens": count}
        return JsonResponse(content, headers=ignored_header(ignored))

    async def retrieve(self, id: str, stream: bool = False) -> Response:
        """Return a response that is stored or in progress."""
        if stream:
            raise InvalidRequestError(
                "stream must be false: only the response is stored, not its events.", param="stream"
            )
        return JsonResponse(await self._responses.get(id))

    async def delete(self, id: str) -> Response:
        """Delete a stored response."""
        await self._responses.delete(id)
        return JsonResponse({"id": id, "object": "response", "deleted": True})

    async def cancel(self, id: str) -> Response:
        """Cancel a response in progress."""
        response = await self._responses.get(id)
        if not self._service.cancel(id, ResponseCancelledError("The response was cancelled.")):
            raise InvalidRequestError(f"Response {id!r} is not in progress, so it cannot be cancelled.")
        return JsonResponse({**response, "status": "cancelled"})

    async def input_items(
        self,
        id: str,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Response:
        """List the input items of a stored response."""
        items = await self._responses.input_items(id)
        return JsonResponse(_page(items[::-1] if order == "desc" else items, after, limit))


def _page(items: Sequence[Item], after: str | None, limit: int) -> dict[str, Any]:
    """Return a list object with at most `limit` items, starting after the item with id `after`."""
    start = 0
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequestError(f"after: item with id {after!r} not found.", param="after")
        start = ids.index(after) + 1
    data = items[start : start + limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else "",
        "last_id": data[-1]["id"] if data else "",
        "has_more": start + limit < len(items),
    }

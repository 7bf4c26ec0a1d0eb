"""The endpoints below /v1/responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, WebSocket
from fastapi.responses import Response

from mlx_host._apis.responses import ResponsesSettings
from mlx_host._apis.responses.builder import ResponseCancelledError
from mlx_host._apis.responses.compaction import SummaryCollector, expanded, fits_verbatim, summary_request, verbatim
from mlx_host._apis.responses.conversation_store import StoreLimits
from mlx_host._apis.responses.conversations import ConversationEndpoints, page
from mlx_host._apis.responses.event_log import EventLog
from mlx_host._apis.responses.examples import (
    CANCELLED,
    COMPACTION,
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
from mlx_host._apis.responses.response import EventLogEncoder, FollowingReply, ResponseCollector, ResponseEncoder
from mlx_host._apis.responses.schema import CompactBody, InputTokensBody, ResponsesBody
from mlx_host._apis.responses.service import ResponseService
from mlx_host._apis.responses.store import ResponseStore
from mlx_host._apis.responses.turn import VARIABLES, chat, check_outputs, modalities, run_in_background, submit
from mlx_host._apis.responses.websocket import ResponsesConnection
from mlx_host.api import Deadline, Endpoints, ModelStatus, Service
from mlx_host.api.http import (
    EXPLANATION,
    JsonResponse,
    caller,
    examples,
    explain,
    ignored_header,
    new_router,
    openai_error,
    respond,
    while_connected,
)
from mlx_host.api.text import ignored_by_model
from mlx_host.errors import InvalidRequestError, ModelUnavailableError, RequestError
from mlx_host.requests import ChatRequest

MEGABYTE = 1_000_000


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
        router.websocket("/v1/responses")(self.connect)
        router.post("/v1/responses/input_tokens", response_model=None, **count)(self.input_tokens)
        router.post("/v1/responses/compact", response_model=None, **examples(PROMPT, COMPACTION))(self.compact)
        router.post("/v1/explain/responses", response_model=None, **examples(REQUEST, EXPLANATION))(self.explain)
        one = "/v1/responses/{id}"
        router.get(one, response_model=None, **examples(response=RESPONSE))(self.retrieve)
        router.delete(one, response_model=None, **examples(response=DELETED))(self.delete)
        router.post(f"{one}/cancel", response_model=None, **examples(response=CANCELLED))(self.cancel)
        router.get(f"{one}/input_items", response_model=None, **examples(response=INPUT_ITEMS))(self.input_items)
        ConversationEndpoints(lambda: self._responses).add_routes(router)
        return router

    async def create(self, body: ResponsesBody, http: Request) -> Response:
        """Create a response, as one object or as a stream."""
        history, items = await self._responses.read(body)
        if body.previous_response_id:
            check_outputs(history, items)
        if body.background:
            return await self._create_in_background(body, history, items, http)
        turn = submit(self._service, body, history, items, caller(http), Deadline.of(stream=body.stream is True))
        output = ResponseEncoder if body.stream else ResponseCollector
        return await respond(
            http,
            turn.reply,
            output(turn.builder, items, self._responses),
            ignored_header(turn.ignored),
            during=self._responses.in_progress(turn.builder),
        )

    async def _create_in_background(
        self, body: ResponsesBody, history: Sequence[Item], items: Sequence[Item], http: Request
    ) -> Response:
        if body.store is False:
            raise InvalidRequestError("background requires that store is true.", param="background")
        if self._service.stopping:
            raise ModelUnavailableError("The server is shutting down.")
        turn = submit(self._service, body, history, items, caller(http), Deadline.NONE)
        builder, events = turn.builder, EventLog()
        builder.response["status"] = "queued"
        queued = {**builder.response}
        # Stored before it runs, so that it is marked as failed if the server stops before it is complete.
        await self._responses.store(builder.response, items)
        self._service.spawn(run_in_background(turn, self._responses, events), name=f"response {builder.id}")
        headers = ignored_header(turn.ignored)
        if body.stream:
            return await respond(http, FollowingReply(turn.reply, events.follow()), EventLogEncoder(), headers)
        return JsonResponse(queued, headers=headers)

    async def connect(self, socket: WebSocket) -> None:
        """Create responses over a WebSocket."""
        await ResponsesConnection(socket, self._service, self._responses, caller(socket)).serve()

    async def compact(self, body: CompactBody, http: Request) -> Response:
        """Compact a conversation to one item, which replaces it as the input of later requests."""
        history, items = await self._responses.read(body)
        conversation = expanded([*history, *items])
        who = caller(http)
        if not conversation:
            raise InvalidRequestError("input is missing; send a string or a list of items.", param="input")
        if fits_verbatim(conversation):
            # Rejects an unknown model, although no model is run.
            self._service.model(body.model, who)
            return JsonResponse(verbatim(conversation), headers=ignored_header(body.ignored()))
        translated = summary_request(body, conversation)
        reply = chat(self._service, translated, who, Deadline.COMPLETE, truncate=True)
        ignored = sorted([*body.ignored(), *translated.ignored])
        return await respond(http, reply, SummaryCollector(conversation), ignored_header(ignored))

    async def input_tokens(self, body: InputTokensBody, http: Request) -> Response:
        """Count the tokens of a request's prompt."""
        history, items = await self._responses.read(body)
        who = caller(http)
        translated = to_prompt(body, history, items, modalities(self._service, body, who))
        status = self._service.model(translated.chat.model, who)
        ignored = {*ignored_by_model(body, translated.chat, status, VARIABLES), *translated.ignored}
        counting = self._service.count_tokens(translated.chat, caller=who)
        try:
            count = await while_connected(http.receive, counting)
        except RequestError as error:
            translated.conversation.translate(error)
            raise
        content = {"object": "response.input_tokens", "input_tokens": count}
        return JsonResponse(content, headers=ignored_header(sorted(ignored)))

    async def explain(self, body: ResponsesBody, http: Request) -> Response:
        """Explain how a response would be created."""
        history, items = await self._responses.read(body)
        translated = to_request(body, history, items, modalities(self._service, body, caller(http)))

        def ignored(request: ChatRequest, model: ModelStatus) -> list[str]:
            fields = ignored_by_model(body, request, model, VARIABLES, body.reasoning_limits())
            return sorted({*fields, *translated.ignored})

        return await explain(self._service, http, translated.chat, ignored, translated.conversation.translate)

    async def retrieve(
        self, id: str, http: Request, stream: bool = False, starting_after: Annotated[int, Query(ge=-1)] = -1
    ) -> Response:
        """Return a response that is stored or in progress, or the events of a background response."""
        if not stream:
            ignored = ["starting_after"] if "starting_after" in http.query_params else []
            return JsonResponse(await self._responses.get(id), headers=ignored_header(ignored))
        events = await self._responses.events(id)
        return await respond(http, FollowingReply(None, events.follow(starting_after)), EventLogEncoder())

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
        return JsonResponse(page(items[::-1] if order == "desc" else items, after, limit))

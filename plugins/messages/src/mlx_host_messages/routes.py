"""POST /v1/messages and /v1/messages/count_tokens: an application of its own, for errors have a body of their own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request
from fastapi.responses import Response
from mlx_host._apis.chat.response import sign_of_life, warning_comment, warning_header
from mlx_host._host import Host
from mlx_host._host.output_processor import AnswerEvent
from mlx_host._http.app import application, new_router
from mlx_host.api import sse
from mlx_host.api.common_fields import idle_strict
from mlx_host.api.json_io import JsonResponse, ignored_header
from mlx_host.api.prompt_tokens import count_prompt_tokens
from starlette.routing import Route

from mlx_host_messages import canonical, errors
from mlx_host_messages.answer import Answer
from mlx_host_messages.request import ignored, to_prompt, to_request
from mlx_host_messages.schema import MessagesBody, PromptBody

Batches = AsyncGenerator[list[AnswerEvent], None]


async def collect(batches: Batches, answer: Answer) -> None:
    """Add the stream up to one message."""
    async with aclosing(batches):
        async for batch in batches:
            answer.take(batch)


async def stream(batches: Batches, answer: Answer) -> sse.Pieces:
    """Say each step of a message."""
    async with aclosing(batches):
        async for batch in batches:
            yield "".join(map(sse.named, answer.take(batch))) + warning_comment(answer.warning)
            yield sign_of_life(batch)


def endpoints(host: Host) -> APIRouter:
    """Make the endpoints."""
    router = new_router()
    form = canonical.canonical if canonical.wanted() else str

    @router.post("/v1/messages", response_model=None)
    async def messages(body: MessagesBody, http: Request) -> Response:
        request = to_request(body, form)
        model = host.model(request.model)
        answer = Answer(request, model.name)
        headers = ignored_header(sorted([*ignored(body), *idle_strict(request, model)]))
        batches = host.chat(request, streams=body.stream is True)
        if body.stream:
            pieces = stream(batches, answer)
            return sse.EventStream(pieces, headers, host.settings.keep_alive, errors.event)
        await sse.while_connected(http.receive, collect(batches, answer))
        return JsonResponse(answer.message, headers={**headers, **warning_header(answer.warning)})

    @router.post("/v1/messages/count_tokens", response_model=None)
    async def count_tokens(body: PromptBody, http: Request) -> Response:
        count = await sse.while_connected(http.receive, count_prompt_tokens(host, to_prompt(body, form)))
        return JsonResponse({"input_tokens": count}, headers=ignored_header(ignored(body)))

    return router


def routes(router: APIRouter, host: Host) -> None:
    """Give this dialect all that begins with its path."""
    app = application([endpoints(host)], errors.response)
    for path in ("/v1/messages", "/v1/messages/{rest:path}"):
        router.routes.append(Route(path, app, include_in_schema=False))

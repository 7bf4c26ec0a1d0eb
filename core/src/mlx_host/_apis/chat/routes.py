"""POST /v1/chat/completions: OpenAI's request in, a stream of events, OpenAI's answer or chunks out."""

from __future__ import annotations

from contextlib import aclosing

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlx_host._apis.chat.request import to_request
from mlx_host._apis.chat.response import Chunks, Frame, collect, stream
from mlx_host._apis.chat.schema import ChatBody
from mlx_host._host import Host
from mlx_host.api import sse
from mlx_host.api.common_fields import idle_strict
from mlx_host.api.json_io import JsonResponse, ignored_header


def routes(router: APIRouter, host: Host) -> None:
    """Add the endpoint."""

    @router.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatBody, http: Request) -> Response:
        request = to_request(body)
        model = host.model(request.model)
        frame = Frame(request, model.name)
        headers = ignored_header(sorted([*body.ignored(), *idle_strict(request, model)]))
        streams = body.stream is True
        batches = host.chat(request, streams=streams)
        if streams:
            include_usage = bool(body.stream_options and body.stream_options.include_usage)
            pieces = stream(batches, Chunks(frame, request.n, include_usage))
            return sse.EventStream(pieces, headers, host.settings.keep_alive)
        async with aclosing(batches):
            whole, more = await sse.while_connected(http.receive, collect(batches, frame, request.n))
        return JsonResponse(whole, headers={**headers, **more})

"""POST /v1/chat/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlx_host._apis.chat.examples import REQUEST, RESPONSE, STREAM
from mlx_host._apis.chat.request import to_request
from mlx_host._apis.chat.response import ChunkEncoder, CompletionCollector
from mlx_host._apis.chat.schema import ChatBody
from mlx_host.api import Deadline, Endpoints, Service
from mlx_host.api.http import caller, examples, ignored_header, new_router, respond
from mlx_host.api.text import StreamOptions, ignored_by_model

# The variables of the chat template by the fields that set each.
VARIABLES = {
    "reasoning_effort": ("reasoning_effort", "reasoning.effort"),
    "enable_thinking": ("enable_thinking", "thinking.type"),
    "documents": ("documents",),
}


class ChatEndpoints(Endpoints):
    """The endpoint of chat completions."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def router(self) -> APIRouter:
        router = new_router()

        @router.post(
            "/v1/chat/completions",
            response_model=None,
            **examples(REQUEST, RESPONSE, stream=STREAM),
        )
        async def chat_completions(body: ChatBody, http: Request) -> Response:
            """Create a chat completion, as one object or as a stream."""
            request, stream = to_request(body), body.stream is True
            reply = self._service.chat(request, caller=caller(http), deadline=Deadline.of(stream=stream))
            headers = ignored_header(ignored_by_model(body, request, reply.model, VARIABLES, body.reasoning_limits()))
            if not stream:
                return await respond(http, reply, CompletionCollector(reply), headers)
            return await respond(http, reply, ChunkEncoder(reply, body.stream_options or StreamOptions()), headers)

        return router

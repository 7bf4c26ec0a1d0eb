"""POST /v1/chat/completions and POST /v1/explain."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlx_host._apis.chat.examples import REQUEST, RESPONSE, STREAM
from mlx_host._apis.chat.request import to_request
from mlx_host._apis.chat.response import ChunkEncoder, CompletionCollector
from mlx_host._apis.chat.schema import ChatBody
from mlx_host.api import Deadline, Endpoints, ModelStatus, Service
from mlx_host.api.chat_messages import custom_names
from mlx_host.api.http import EXPLANATION, caller, examples, explain, ignored_header, new_router, respond
from mlx_host.api.text import StreamOptions, ignored_by_model
from mlx_host.requests import ChatRequest

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
            options, custom = body.stream_options or StreamOptions(), custom_names(body.tools)
            if not stream:
                return await respond(http, reply, CompletionCollector(reply, custom), headers)
            return await respond(http, reply, ChunkEncoder(reply, options, custom), headers)

        @router.post("/v1/explain", response_model=None, **examples(REQUEST, EXPLANATION))
        async def explain_chat(body: ChatBody, http: Request) -> Response:
            """Explain how a chat completion would be processed."""

            def ignored(request: ChatRequest, model: ModelStatus) -> list[str]:
                return ignored_by_model(body, request, model, VARIABLES, body.reasoning_limits())

            return await explain(self._service, http, to_request(body), ignored)

        return router

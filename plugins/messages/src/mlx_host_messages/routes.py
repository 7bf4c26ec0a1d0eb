"""POST /v1/messages, POST /v1/messages/count_tokens and POST /v1/explain/messages."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response
from mlx_host.api import Deadline, Endpoints, ModelStatus, Service
from mlx_host.api.http import (
    EXPLANATION,
    JsonResponse,
    caller,
    examples,
    explain,
    ignored_header,
    new_router,
    respond,
    while_connected,
)
from mlx_host.api.text import ignored_by_model
from mlx_host.errors import RequestError
from mlx_host.requests import ChatRequest

from mlx_host_messages.errors import error_response
from mlx_host_messages.examples import COUNT, REQUEST, RESPONSE, STREAM
from mlx_host_messages.plugin import MessagesSettings
from mlx_host_messages.request import reasoning_limits, to_prompt, to_request
from mlx_host_messages.response import MessageCollector, MessageEncoder
from mlx_host_messages.schema import CountTokensBody, MessagesBody
from mlx_host_messages.system_prompt_normalizer import SystemPromptNormalizer

# The variables of the chat template by the fields that set each.
VARIABLES = {"enable_thinking": ("thinking",), "reasoning_effort": ("output_config.effort",)}


class MessagesEndpoints(Endpoints):
    """The Messages API."""

    def __init__(self, service: Service, settings: MessagesSettings) -> None:
        self._service = service
        self._normalizes = settings.normalize_system_prompt

    def error(self, error: RequestError) -> Response:
        return error_response(error)

    def router(self) -> APIRouter:
        router = new_router()
        router.post("/v1/messages", response_model=None, **examples(REQUEST, RESPONSE, stream=STREAM))(self.messages)
        router.post("/v1/messages/count_tokens", response_model=None, **examples(COUNT, {"input_tokens": 37}))(
            self.count_tokens
        )
        router.post("/v1/explain/messages", response_model=None, **examples(REQUEST, EXPLANATION))(self.explain)
        return router

    async def messages(self, body: MessagesBody, http: Request) -> Response:
        """Create a message, streamed or not."""
        normalize = SystemPromptNormalizer(self._normalizes)
        request, stream = to_request(body, normalize), body.stream is True
        reply = self._service.chat(request, caller=caller(http), deadline=Deadline.of(stream=stream))
        prepared = reply.request
        assert isinstance(prepared, ChatRequest)
        ignored = ignored_by_model(body, prepared, reply.model, VARIABLES, reasoning_limits(body))
        headers = ignored_header(sorted([*ignored, *normalize.ignored]))
        return await respond(http, reply, MessageEncoder(reply) if stream else MessageCollector(reply), headers)

    async def explain(self, body: MessagesBody, http: Request) -> Response:
        """Explain how a message would be created."""
        normalize = SystemPromptNormalizer(self._normalizes)
        request = to_request(body, normalize)

        def ignored(request: ChatRequest, model: ModelStatus) -> list[str]:
            fields = ignored_by_model(body, request, model, VARIABLES, reasoning_limits(body))
            return sorted([*fields, *normalize.ignored])

        return await explain(self._service, http, request, ignored)

    async def count_tokens(self, body: CountTokensBody, http: Request) -> Response:
        """Count the tokens of a request's prompt."""
        normalize = SystemPromptNormalizer(self._normalizes)
        request = to_prompt(body, normalize)
        ignored = ignored_by_model(body, request, self._service.model(request.model, caller(http)), VARIABLES)
        counting = self._service.count_tokens(request, caller=caller(http))
        count = await while_connected(http.receive, counting)
        return JsonResponse({"input_tokens": count}, headers=ignored_header(sorted([*ignored, *normalize.ignored])))

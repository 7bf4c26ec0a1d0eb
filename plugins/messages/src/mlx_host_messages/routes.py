"""POST /v1/messages, POST /v1/messages/count_tokens and POST /v1/explain/messages."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response
from mlx_host.api import ChoiceCompleted, ChoiceDelta, Deadline, Endpoints, ModelStatus, OutputCompleted, Service
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
from mlx_host.events import Started
from mlx_host.parsing import Content
from mlx_host.requests import ChatRequest

from mlx_host_messages.error_paths import OriginalPathsReply, with_original_paths
from mlx_host_messages.errors import error_response
from mlx_host_messages.examples import COUNT, REQUEST, RESPONSE, STREAM
from mlx_host_messages.message_builder import AnthropicMessageBuilder
from mlx_host_messages.plugin import MessagesSettings
from mlx_host_messages.request import ConvertedPrompt, reasoning_limits, to_request
from mlx_host_messages.response import MessageCollector, MessageEncoder, Store, event_stream
from mlx_host_messages.schema import CountTokensBody, MessagesBody
from mlx_host_messages.system_prompt_normalizer import SystemPromptNormalizer
from mlx_host_messages.threads import ThreadStore
from mlx_host_messages.tools import HostedTool

# The types of content blocks by those of chat's content parts.
MEDIA_TYPES = {"image_url": "image"}
# The variables of the chat template by the fields that set each.
VARIABLES = {"enable_thinking": ("thinking",), "reasoning_effort": ("output_config.effort",)}


class MessagesEndpoints(Endpoints):
    """The Messages API."""

    def __init__(self, service: Service, settings: MessagesSettings) -> None:
        self._service = service
        self._normalizes = settings.normalize_system_prompt
        self._threads = ThreadStore(settings.thread_store_entries, settings.thread_store_mb * 1e6)

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
        new, body = body.messages, self._threads.resolve(body)
        normalize = SystemPromptNormalizer(self._normalizes)
        prompt = ConvertedPrompt(body, normalize)
        store = partial(self._threads.add, body, new)
        dropped = {*prompt.ignored, *normalize.ignored}
        if (hosted := prompt.unavailable()) is not None:
            headers = ignored_header(sorted({*body.ignored(), *dropped}))
            return self._report_unavailable(body, http, prompt.id, hosted, store, headers)
        request, stream = to_request(body, prompt), body.stream is True
        try:
            chat = self._service.chat(request, caller=caller(http), deadline=Deadline.of(stream=stream))
        except RequestError as error:
            raise with_original_paths(error, prompt.conversation) from None
        reply = OriginalPathsReply(chat, prompt.conversation)
        prepared = reply.request
        assert isinstance(prepared, ChatRequest)
        ignored = ignored_by_model(body, prepared, reply.model, VARIABLES, reasoning_limits(body), MEDIA_TYPES)
        shows_thinking = body.thinking is None or body.thinking.display != "omitted"
        builder = AnthropicMessageBuilder.of(reply, shows_thinking=shows_thinking)
        output = MessageEncoder(builder, store) if stream else MessageCollector(builder, store)
        return await respond(http, reply, output, ignored_header(sorted({*ignored, *dropped})))

    def _report_unavailable(
        self, body: MessagesBody, http: Request, id: str, hosted: HostedTool, store: Store, headers: dict[str, str]
    ) -> Response:
        """Return a message that reports a hosted tool, the only tool that the model could use, as unavailable."""
        model = self._service.model(body.model or "", caller(http))
        builder = AnthropicMessageBuilder(id, model.name, body.max_tokens)
        events = [
            *builder.add([Started(prompt_tokens=0)]),
            *builder.add_block(hosted.use),
            *builder.add_block(hosted.result),
            *builder.add([ChoiceDelta(0, [Content(hosted.text)]), ChoiceCompleted(0, "stop")]),
            *builder.add([OutputCompleted(0, 0, 0)]),
            *builder.complete(),
        ]
        store(builder.message)
        response = event_stream(events) if body.stream is True else JsonResponse(builder.message)
        response.headers.update(headers)
        return response

    async def explain(self, body: MessagesBody, http: Request) -> Response:
        """Explain how a message would be created."""
        body = self._threads.resolve(body)
        normalize = SystemPromptNormalizer(self._normalizes)
        prompt = ConvertedPrompt(body, normalize)

        def ignored(request: ChatRequest, model: ModelStatus) -> list[str]:
            fields = ignored_by_model(body, request, model, VARIABLES, reasoning_limits(body), MEDIA_TYPES)
            return sorted({*fields, *prompt.ignored, *normalize.ignored})

        return await explain(self._service, http, to_request(body, prompt), ignored)

    async def count_tokens(self, body: CountTokensBody, http: Request) -> Response:
        """Count the tokens of a request's prompt."""
        body = self._threads.resolve(body)
        normalize = SystemPromptNormalizer(self._normalizes)
        prompt = ConvertedPrompt(body, normalize)
        request = prompt.request()
        ignored = ignored_by_model(
            body, request, self._service.model(request.model, caller(http)), VARIABLES, media_types=MEDIA_TYPES
        )
        try:
            counting = self._service.count_tokens(request, caller=caller(http))
            count = await while_connected(http.receive, counting)
        except RequestError as error:
            raise with_original_paths(error, prompt.conversation) from None
        headers = ignored_header(sorted({*ignored, *prompt.ignored, *normalize.ignored}))
        return JsonResponse({"input_tokens": count}, headers=headers)

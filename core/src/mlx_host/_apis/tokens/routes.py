"""POST /tokenize, POST /detokenize and GET /tokenizer_info, compatible with vLLM."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from mlx_host.api import Endpoints, Service
from mlx_host.api.chat_messages import Messages, PromptEnd, Tools, request_messages, request_tools
from mlx_host.api.common_fields import TemplateKwargs, ignored_by_model
from mlx_host.api.http import Collector, JsonResponse, caller, examples, ignored_header, new_router, respond
from mlx_host.api.ignored_fields import ignored_fields
from mlx_host.errors import InvalidRequestError
from mlx_host.events import Event, TextDelta, Tokenized, TokenizerInfo
from mlx_host.requests import ChatRequest, DetokenizeRequest, TokenizeRequest, TokenizerInfoRequest

# A request and its response, for the OpenAPI document.
TOKENIZE = (
    {"model": "demo:smollm2", "prompt": "Hello there"},
    {"count": 2, "max_model_len": 8192, "tokens": [19556, 665], "token_strs": None},
)
DETOKENIZE = ({"model": "demo:smollm2", "tokens": [19556, 665]}, {"prompt": "Hello there"})

TOKENIZER_INFO = {"tokenizer_class": "GPT2Tokenizer", "chat_template": "{% for message in messages %}…"}


class TokenBody(BaseModel):
    """The fields of both bodies; null means the default."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None

    def ignored(self) -> list[str]:
        """Return the paths of fields that are set and have no effect."""
        return ignored_fields(self)


class TokenizeBody(TokenBody, PromptEnd):
    """POST /tokenize."""

    prompt: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None

    # Rejected: it would change the response and is not supported.
    chat_template: str | None = None


class DetokenizeBody(TokenBody):
    """POST /detokenize."""

    tokens: list[Annotated[int, Field(ge=0, lt=2**63)]]


def to_tokenize(body: TokenizeBody) -> TokenizeRequest:
    """Translate a body; InvalidRequestError names a field that is not supported."""
    if body.chat_template:
        raise InvalidRequestError("chat_template is not supported by this server.", param="chat_template")
    common: dict[str, Any] = {"id": f"tok-{uuid.uuid4().hex}", "model": body.model or ""}
    if body.messages is None and body.prompt is not None:
        return TokenizeRequest(**common, prompt=body.prompt, special_tokens=body.add_special_tokens is not False)
    if body.messages is None or body.prompt is not None:
        raise InvalidRequestError("Exactly one of prompt and messages is required.", param="prompt")
    if body.add_special_tokens:
        raise InvalidRequestError(
            "add_special_tokens requires prompt; chat templates add special tokens themselves.",
            param="add_special_tokens",
        )
    chat = ChatRequest(
        **common,
        messages=request_messages(body.messages),
        tools=request_tools(body.tools),
        template_kwargs=body.chat_template_kwargs or {},
        **body.prompt_end(body.messages),
    )
    return TokenizeRequest(**common, prompt=chat)


class EventCollector(Collector[Event]):
    """Collects all events for a function that builds the response."""

    def __init__(self, build: Callable[[list[Event]], dict[str, Any]]) -> None:
        self._events: list[Event] = []
        self._build = build

    def add(self, events: Sequence[Event]) -> None:
        self._events += events

    async def response(self) -> Response:
        return JsonResponse(self._build(self._events))


class TokenEndpoints(Endpoints):
    """The endpoints that convert between text and token ids."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def router(self) -> APIRouter:
        router = new_router()

        @router.post("/tokenize", response_model=None, **examples(*TOKENIZE))
        async def tokenize(body: TokenizeBody, http: Request) -> Response:
            """Convert text or messages to token ids."""
            request = to_tokenize(body)
            reply = self._service.submit(request, caller=caller(http))

            def build(events: list[Event]) -> dict[str, Any]:
                (found,) = [event for event in events if isinstance(event, Tokenized)]
                # The model may have been loading when the request arrived.
                capabilities = self._service.model(reply.model.name, caller(http)).capabilities
                return {
                    "count": len(found.tokens),
                    "max_model_len": None if capabilities is None else capabilities.context_length,
                    "tokens": found.tokens,
                    "token_strs": found.token_strs if body.return_token_strs else None,
                }

            ignored = body.ignored()
            if isinstance(request.prompt, ChatRequest):
                ignored = ignored_by_model(body, request.prompt, reply.model, {})
            return await respond(http, reply, EventCollector(build), ignored_header(ignored))

        @router.post("/detokenize", response_model=None, **examples(*DETOKENIZE))
        async def detokenize(body: DetokenizeBody, http: Request) -> Response:
            """Convert token ids to text."""
            request = DetokenizeRequest(id=f"detok-{uuid.uuid4().hex}", model=body.model or "", tokens=body.tokens)
            reply = self._service.submit(request, caller=caller(http))

            def build(events: list[Event]) -> dict[str, Any]:
                return {"prompt": "".join([event.text for event in events if isinstance(event, TextDelta)])}

            return await respond(http, reply, EventCollector(build), ignored_header(body.ignored()))

        @router.get("/tokenizer_info", response_model=None, **examples(response=TOKENIZER_INFO))
        async def tokenizer_info(http: Request, model: str = "") -> Response:
            """Get the tokenizer's configuration."""
            request = TokenizerInfoRequest(id=f"tokinfo-{uuid.uuid4().hex}", model=model)
            reply = self._service.submit(request, caller=caller(http))

            def build(events: list[Event]) -> dict[str, Any]:
                (found,) = [event for event in events if isinstance(event, TokenizerInfo)]
                return dict(found.config)

            return await respond(http, reply, EventCollector(build), ignored_header([]))

        return router

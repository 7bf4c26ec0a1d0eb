"""POST /tokenize and /detokenize, as vLLM has them: what a model reads, and what token ids say."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from mlx_host._apis.chat.request import to_request
from mlx_host._apis.chat.schema import ChatBody, Messages, Tool
from mlx_host._host import Exchange, Host
from mlx_host.api import sse
from mlx_host.api.json_io import JsonResponse, ignored_header
from mlx_host.errors import InvalidRequest
from mlx_host.events import Event, Text, Tokenized
from mlx_host.requests import DetokenizeRequest, TokenizeRequest


class TokenBody(BaseModel):
    """What both bodies have; every field that is not required may be null, which means its default."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None

    def ignored(self) -> list[str]:
        """Name the fields that were given, not null, and change nothing here."""
        return sorted(name for name, value in (self.model_extra or {}).items() if value is not None)


class TokenizeBody(TokenBody):
    """POST /tokenize."""

    prompt: str | None = None
    messages: Messages | None = None
    tools: list[Tool] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None

    # What would change the answer if it were honoured, and is not.
    continue_final_message: bool | None = None
    chat_template: str | None = None


class DetokenizeBody(TokenBody):
    """POST /detokenize."""

    tokens: list[Annotated[int, Field(ge=0, lt=2**63)]]


def to_tokenize(body: TokenizeBody) -> TokenizeRequest:
    """Translate a body; InvalidRequest names what cannot be honoured."""
    for name in ("continue_final_message", "chat_template"):
        if getattr(body, name):
            raise InvalidRequest(f"{name} is not supported by this server.", param=name)
    frame: dict[str, Any] = {"id": f"tok-{uuid.uuid4().hex}", "model": body.model or ""}
    if body.messages is None and body.prompt is not None:
        return TokenizeRequest(**frame, prompt=body.prompt, special_tokens=body.add_special_tokens is not False)
    if body.messages is None or body.prompt is not None:
        raise InvalidRequest("Give a prompt or messages, and not both.", param="prompt")
    if body.add_special_tokens:
        raise InvalidRequest(
            "add_special_tokens goes with a prompt only: a chat template writes special tokens itself.",
            param="add_special_tokens",
        )
    chat = ChatBody(
        model=body.model,
        messages=body.messages,
        tools=body.tools,
        chat_template_kwargs=body.chat_template_kwargs,
    )
    return TokenizeRequest(**frame, prompt=to_request(chat), generation_prompt=body.add_generation_prompt is not False)


async def collect(exchange: Exchange) -> list[Event]:
    """All that a model says."""
    async with exchange:
        return [event async for events in exchange for event in events]


def routes(router: APIRouter, host: Host) -> None:
    """Add the endpoints."""

    @router.post("/tokenize", response_model=None)
    async def tokenize(body: TokenizeBody, http: Request) -> Response:
        exchange = host.tokenize(to_tokenize(body))
        events = await sse.while_connected(http.receive, collect(exchange))
        (found,) = [event for event in events if isinstance(event, Tokenized)]
        info = host.model(exchange.request.model).info
        answer = {
            "count": len(found.tokens),
            "max_model_len": None if info is None else info.context_length,
            "tokens": found.tokens,
            "token_strs": found.symbols if body.return_token_strs else None,
        }
        return JsonResponse(answer, headers=ignored_header(body.ignored()))

    @router.post("/detokenize", response_model=None)
    async def detokenize(body: DetokenizeBody, http: Request) -> Response:
        request = DetokenizeRequest(id=f"detok-{uuid.uuid4().hex}", model=body.model or "", tokens=body.tokens)
        events = await sse.while_connected(http.receive, collect(host.ask(request)))
        text = "".join([event.text for event in events if isinstance(event, Text)])
        return JsonResponse({"prompt": text}, headers=ignored_header(body.ignored()))

"""What every request passes first: it gets an id, and its body must come in time and be of a bearable size.

Plain ASGI: under Starlette's BaseHTTPMiddleware an endpoint could not see its client go away.
"""

from __future__ import annotations

import asyncio
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_host.api.json_io import HTTPExceptionAdapter
from mlx_host.errors import InvalidRequest, TooLarge

MEGABYTE = 1000 * 1000
# How long the next piece of a body may take.
BODY_SECONDS = 30.0


class BodyTimeout(InvalidRequest):
    """The body did not come."""

    status = 408
    code = "request_timeout"


class RequestId:
    """Gives every answer an id, under the names that OpenAI's and Anthropic's clients look for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = headers["request-id"] = request_id
            await send(message)

        request_id = f"req_{uuid.uuid4().hex}"
        await self._app(scope, receive, send_with_id)


class HeadAsGet:
    """Answers HEAD, by which monitors ask, as GET is answered; the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asks = scope["type"] == "http" and scope["method"] == "HEAD"
        await self._app({**scope, "method": "GET"} if asks else scope, receive, send)


class BodyLimit:
    """Refuses a body of more than `megabytes`, and one that stops coming. No model has heard of the request by then."""

    def __init__(self, app: ASGIApp, megabytes: float, seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._most = megabytes * MEGABYTE
        self._limit = f"{megabytes:g} MB"
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        too_large = not announced.isdecimal() or int(announced) > self._most
        come, complete = 0, False

        async def receive_body() -> Message:
            nonlocal come, complete
            if too_large:
                raise self._too_large()
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(self._seconds):
                    message = await receive()
            except TimeoutError:
                late = f"Nothing more of the body came within {self._seconds:g} seconds."
                raise HTTPExceptionAdapter(BodyTimeout(late)) from None
            if message["type"] == "http.request":
                come += len(message["body"])
                complete = not message["more_body"]
                if come > self._most:
                    raise self._too_large()
            return message

        await self._app(scope, receive_body, send)

    def _too_large(self) -> HTTPExceptionAdapter:
        # To whoever reads the body, who knows what an error looks like there.
        message = f"The body is larger than the {self._limit} that this server takes (--max-body-mb)."
        return HTTPExceptionAdapter(TooLarge(message, code="request_too_large"))

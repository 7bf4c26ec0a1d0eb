"""ASGI middleware around every endpoint: request ids, the log, HEAD, the origin of WebSockets, and limits on bodies.

Pure ASGI: under Starlette's BaseHTTPMiddleware endpoints do not notice that the client disconnects.
"""

from __future__ import annotations

import asyncio
import uuid
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_host._host import request_log
from mlx_host._host.request_log import RequestLog
from mlx_host._http.json_size import MAX_CONTAINERS, MAX_ITEMS, JsonSize
from mlx_host.api.errors import UnsupportedMediaTypeError, openai_error
from mlx_host.api.json_io import HTTPExceptionAdapter
from mlx_host.api.responding import WARNING_HEADER
from mlx_host.api.routing import WARNINGS
from mlx_host.errors import InvalidRequestError, RequestError, RequestTooLargeError

MEGABYTE = 1000 * 1000
# Seconds in which the next chunk of a body must arrive.
BODY_TIMEOUT = 30.0
# The method of WebSocket connections in the log.
WEBSOCKET = "WS"
# WebSocket's close code.
MESSAGE_TOO_BIG = 1009


class ForbiddenOriginError(InvalidRequestError):
    """A web page of another origin has opened a WebSocket."""

    status = 403
    code = "forbidden_origin"


class BodyTimeoutError(InvalidRequestError):
    """The client stopped sending the body."""

    status = 408
    code = "request_timeout"


def new_request_id() -> str:
    """Return a unique value of the header `x-request-id`."""
    return f"req_{uuid.uuid4().hex}"


class RequestIdAndLog:
    """Adds a unique id to every response, in the headers that OpenAI's and Anthropic's clients read; logs each request.

    The outermost middleware, so that it sees the status of every response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        is_websocket = scope["type"] == "websocket"
        method = WEBSOCKET if is_websocket else scope["method"]
        entry = RequestLog(new_request_id(), method, scope["path"], logs_each_reply=is_websocket)

        async def send_logged(message: Message) -> None:
            kind = message["type"].removeprefix("websocket.")
            if kind in ("http.response.start", "accept"):
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                headers["x-request-id"] = headers["request-id"] = entry.id
                message["headers"] = headers.raw
                entry.status = message.get("status", HTTPStatus.SWITCHING_PROTOCOLS.value)
            await send(message)
            # A connection is complete when it has been accepted: either side may close it.
            if kind == "accept" or (kind == "http.response.body" and not message.get("more_body", False)):
                entry.complete = True

        with request_log.logged(entry):
            await self._app(scope, receive, send_logged)


class RequestWarnings:
    """Adds the warnings about a request, for example about its body, to the warning header of the response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        warnings: list[str] = []

        async def send_with_warnings(message: Message) -> None:
            if warnings and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[WARNING_HEADER] = " ".join(filter(None, [headers.get(WARNING_HEADER), *warnings]))
            await send(message)

        await self._app({**scope, WARNINGS: warnings}, receive, send_with_warnings)


class SameOrigin:
    """Rejects WebSockets that a web page of another origin opens, with a 403.

    Browsers open them to any server without a CORS preflight, so that any page could otherwise use a local server.
    Other clients send no origin.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != headers.get("host"):
                error = ForbiddenOriginError(
                    f"Origin {origin!r} is not this server's; web pages of other origins cannot open a WebSocket."
                )
                if (entry := request_log.current()) is not None:
                    entry.error = error
                await openai_error(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class HeadAsGet:
    """Handles HEAD, which monitors send, like GET; the server omits the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        await self._app({**scope, "method": "GET"} if is_head else scope, receive, send)


class BodyLimit:
    """Rejects bodies that are too large, compressed, have too many JSON values, or stop arriving.

    The error is raised where the body is read, so that it has the format of the endpoint's API. A compressed body is
    rejected (415): its size would be known only after decompression. JSON values are counted while the body arrives,
    because parsing and validating very many of them would block the event loop, and with it every stream.
    """

    def __init__(self, app: ASGIApp, megabytes: float, timeout: float = BODY_TIMEOUT) -> None:
        self._app = app
        self._max_bytes = megabytes * MEGABYTE
        self._limit = f"{megabytes:g} MB"
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._app(scope, self._limited_frames(receive, send), send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        error = self._invalid_headers(headers)
        json_size = None if headers.get("content-type", "").startswith("multipart/") else JsonSize()
        received, complete = 0, False

        async def receive_body() -> Message:
            nonlocal received, complete
            if error is not None:
                raise HTTPExceptionAdapter(error)
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(self._timeout):
                    message = await receive()
            except TimeoutError:
                late = f"The request body is incomplete and no data arrived for {self._timeout:g} seconds."
                raise HTTPExceptionAdapter(BodyTimeoutError(late)) from None
            if message["type"] == "http.request":
                body = message.get("body", b"")
                received += len(body)
                complete = not message.get("more_body", False)
                if received > self._max_bytes:
                    raise HTTPExceptionAdapter(self._too_large())
                if json_size is not None:
                    json_size.add(body)
                    self._check(json_size)
            return message

        await self._app(scope, receive_body, send)

    def _limited_frames(self, receive: Receive, send: Send) -> Receive:
        """Return a `receive` that closes the connection after a frame with too many values.

        The server itself limits the size of frames, with the same close code.
        """

        async def receive_frame() -> Message:
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            size = JsonSize()
            size.add((message.get("text") or "").encode(errors="replace"))
            try:
                self._check(size)
            except HTTPExceptionAdapter:
                await send({"type": "websocket.close", "code": MESSAGE_TOO_BIG, "reason": "too many JSON values"})
                return {"type": "websocket.disconnect", "code": MESSAGE_TOO_BIG}
            return message

        return receive_frame

    def _invalid_headers(self, headers: Headers) -> RequestError | None:
        encoding = headers.get("content-encoding", "identity")
        if encoding.strip().lower() not in ("identity", ""):
            message = f"Content-Encoding {encoding!r} is not supported; send the body uncompressed."
            return UnsupportedMediaTypeError(message, code="unsupported_content_encoding")
        length = headers.get("content-length", "0")
        return self._too_large() if not length.isdecimal() or int(length) > self._max_bytes else None

    def _too_large(self) -> RequestTooLargeError:
        return RequestTooLargeError(
            f"The request body exceeds the limit of {self._limit} (--max-body-mb).", code="request_too_large"
        )

    def _check(self, size: JsonSize) -> None:
        for count, limit, kind in (
            (size.containers, MAX_CONTAINERS, "objects and arrays"),
            (size.items, MAX_ITEMS, "values"),
        ):
            if count > limit:
                message = f"The request body has more than {limit} JSON {kind}. Split it into several requests."
                raise HTTPExceptionAdapter(RequestTooLargeError(message, code="request_too_large"))

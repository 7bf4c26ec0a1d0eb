"""Sends an HTTP request to an API's endpoints without a server, for unit tests of handlers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.types import Message

from mlx_host._http.app import make_app, mount
from mlx_host.api import Api, ApiSettings, Service
from mlx_host.testing.http import HttpResponse

MAX_BODY_MB = 64


async def request(
    api: Api[Any],
    service: Service,
    method: str,
    path: str,
    body: object = None,
    *,
    headers: Mapping[str, str] = {},
    settings: ApiSettings | None = None,
    disconnect_after: int | None = None,
) -> HttpResponse:
    """Send a request to endpoints that use `service`, within their lifespan; `body` is bytes, or a value sent as JSON.

    With `disconnect_after`, the client disconnects after this number of chunks of the response's body; with 0, before
    the response starts.
    """
    mounted = mount(api, "test", service, settings or api.settings())
    app = make_app([mounted], MAX_BODY_MB)
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    exchange = _Exchange(content, disconnect_after)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.partition("?")[0],
        "raw_path": path.partition("?")[0].encode(),
        "query_string": path.partition("?")[2].encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    async with mounted.endpoints.lifespan():
        await app(scope, exchange.receive, exchange.send)
    return exchange.response()


class _Exchange:
    """The client's side of one ASGI request."""

    def __init__(self, body: bytes, disconnect_after: int | None) -> None:
        self._body: bytes | None = body
        self._start: Message | None = None
        self._chunks: list[bytes] = []
        self._complete = False
        self._disconnect_after = disconnect_after
        self._disconnected = asyncio.Event()

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            if self._disconnect_after == 0:
                self._disconnected.set()
            return {"type": "http.request", "body": body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if chunk := message.get("body", b""):
            self._chunks.append(chunk)
        if not message.get("more_body", False):
            self._complete = True
            self._disconnected.set()
        elif self._disconnect_after is not None and len(self._chunks) >= self._disconnect_after:
            self._disconnected.set()

    def response(self) -> HttpResponse:
        """Return the response as received; its status is 0 if the client disconnected before it started."""
        start = self._start or {"status": 0, "headers": ()}
        headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return HttpResponse(start["status"], headers, b"".join(self._chunks), self._complete)

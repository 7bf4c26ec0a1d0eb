"""The least HTTP/1.1 client that can time a stream: it notes when bytes came and leaves reading them for later.

It shares the machine with the server it measures. At 32 streams it takes about 11 µs of processor time a chunk where
httpx2 takes about 80, which at a thousand chunks a second is the difference between 1 % and 8 % of a core.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

from mlx_host.errors import UsageError

Clock = Callable[[], float]
"""Seconds from any fixed point."""


@dataclass(frozen=True)
class Target:
    """An OpenAI-compatible server: where it listens, the path that ends in /v1, and the key it wants, if any."""

    host: str
    port: int
    path: str
    tls: bool = False
    api_key: str | None = None

    @classmethod
    def parse(cls, url: str, api_key: str | None = None) -> Target:
        """Read a base URL; one whose path does not end in /v1 gets it added."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{url!r} is not a URL: {error}. Give one such as http://127.0.0.1:8000/v1.") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is not an http(s) URL. Give one such as http://127.0.0.1:8000/v1.")
        path = parts.path.rstrip("/")
        tls = parts.scheme == "https"
        return cls(
            host=parts.hostname,
            port=port or (443 if tls else 80),
            path=path if path.endswith("/v1") else f"{path}/v1",
            tls=tls,
            api_key=api_key,
        )

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.path}"

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The bytes of a request for `path` below /v1, on a connection of its own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"{method} {self.path}{path} HTTP/1.1", f"Host: {host}:{self.port}", "Connection: close"]
        if self.api_key:
            lines.append(f"Authorization: Bearer {self.api_key}")
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Recording:
    """What came back for one request, unread: pieces of the body with their times of arrival, all on one clock.

    `status` is 0 until the response began. `failure` says why the bytes stopped if something broke; a connection that
    was closed too early is found by whoever reads the body.
    """

    sent: float
    status: int = 0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended: float = 0.0
    failure: str | None = None

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)


class _Exchange(asyncio.Protocol):
    def __init__(self, request: bytes, recording: Recording, clock: Clock) -> None:
        self._request = request
        self._recording = recording
        self._clock = clock
        self._now = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.done.done():
            return
        self._now = self._clock()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"the answer is not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc) if exc else None)

    def on_headers_complete(self) -> None:
        self._recording.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._recording.pieces.append((self._now, body))

    def on_message_complete(self) -> None:
        self._end(None)

    def _end(self, failure: str | None) -> None:
        if not self.done.done():
            self._recording.ended = self._clock()
            self._recording.failure = failure
            self.done.set_result(None)


async def exchange(target: Target, request: bytes, *, clock: Clock, timeout: float) -> Recording:
    """Send one request on a connection of its own, whose making counts; what goes wrong is told by the recording."""
    recording = Recording(sent=clock())
    loop = asyncio.get_running_loop()
    transport: asyncio.BaseTransport | None = None
    try:
        async with asyncio.timeout(timeout):
            transport, protocol = await loop.create_connection(
                lambda: _Exchange(request, recording, clock), target.host, target.port, ssl=target.tls or None
            )
            await protocol.done
    except TimeoutError:
        recording.ended = clock()
        recording.failure = f"no end of the answer within {timeout:g} s"
    except OSError as error:
        recording.ended = clock()
        recording.failure = f"no connection: {os.strerror(error.errno) if error.errno else error}"
    finally:
        if transport is not None:
            transport.close()
    return recording

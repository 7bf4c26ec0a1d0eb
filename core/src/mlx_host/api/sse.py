"""Server-sent events: how a stream goes out, how it ends on an error, and how a client's going away is seen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from mlx_host.api import errors, json_io
from mlx_host.errors import RequestError

log = logging.getLogger(__name__)

DONE = "data: [DONE]\n\n"

T = TypeVar("T")


class ClientGone(RequestError):
    """The client went away before there was an answer; nobody reads this."""

    status = 499
    code = "client_gone"


@dataclass(frozen=True, slots=True)
class Comment:
    """What a stream says while it has nothing else to say."""

    text: str


Pieces = AsyncGenerator[str | Comment, None]


def event(value: Any) -> str:
    """Write one event."""
    return f"data: {json_io.text(value)}\n\n"


def error_event(error: RequestError) -> str:
    """Write the last event of a stream that fails, as OpenAI does."""
    return event(errors.body(error))


def named(value: dict[str, Any]) -> str:
    """Write one event that goes by its type."""
    return f"event: {value['type']}\n{event(value)}"


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Wait for `work`, and give it up when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone("The client closed the connection.")
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait((task, gone))


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Sends `pieces`, each as soon as it is there, and closes them when the client goes away.

    The status is sent with the first piece, so an error before it is still a refusal with a status of its own. An
    error after it is the last event of the stream, written by `error_event`. A stream that has been silent for
    `keep_alive` seconds (0: never mind) sends a comment, which proxies and clients take for a sign of life; it, too,
    settles the status.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        pieces: Pieces,
        headers: dict[str, str],
        keep_alive: float,
        error_event: Callable[[RequestError], str] = error_event,
    ) -> None:
        # Proxies such as nginx would otherwise collect the stream before they pass it on.
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers})
        del self.headers["content-length"]
        self._pieces = pieces
        self._keep_alive = keep_alive
        self._error_event = error_event
        self._comment = Comment("queued")
        self._started = False
        self._sending = asyncio.Lock()
        self._last = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send_message = send
        with suppress(ClientGone):
            await while_connected(receive, self._run())

    async def _run(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._last = self._now()
        watch = asyncio.ensure_future(self._break_silence())
        try:
            async with aclosing(self._pieces):
                await self._send_all()
        finally:
            watch.cancel()
        async with self._sending:
            await self._send_message({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self) -> None:
        try:
            async for piece in self._pieces:
                if isinstance(piece, Comment):
                    self._comment = piece
                elif piece:
                    await self._send(piece)
        except Exception as error:
            if not self._started:
                raise
            # Bytes have flowed, so the status is spent.
            if not isinstance(error, RequestError):
                log.exception("a stream failed")
                error = errors.InternalError(errors.FAULT)
            await self._send(self._error_event(error))

    async def _break_silence(self) -> None:
        while self._keep_alive:
            await asyncio.sleep(self._last + self._keep_alive - self._now())
            async with self._sending:
                if self._now() - self._last >= self._keep_alive:
                    await self._write(f": {self._comment.text}\n\n")

    async def _send(self, piece: str) -> None:
        async with self._sending:
            await self._write(piece)

    async def _write(self, piece: str) -> None:
        if not self._started:
            start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await self._send_message(start)
            self._started = True
        await self._send_message({"type": "http.response.body", "body": json_io.encoded(piece), "more_body": True})
        self._last = self._now()

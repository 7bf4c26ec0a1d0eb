"""Converts a reply to an HTTP response: streamed through an encoder, or collected into one body."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from mlx_host.api import json_io
from mlx_host.api.errors import INTERNAL_ERROR, InternalError, openai_body
from mlx_host.api.service import Reply
from mlx_host.errors import RequestError

log = logging.getLogger(__name__)

T = TypeVar("T")
EventT = TypeVar("EventT")
WARNING_HEADER = "x-mlx-host-warning"
# mlx-host's ASGI extension; its `close` closes a connection whose response cannot be completed.
ABORT = "mlx_host.abort"


class ClientDisconnectError(RequestError):
    """The client closed the connection before the response was complete; this error is never sent."""

    status = 499
    code = "client_disconnect"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream, before framing; `event` is the name that SSE gives it."""

    data: str | bytes
    event: str | None = None


class Framing(ABC):
    """The byte format of a stream's messages; a format without comments has no keep-alive."""

    media_type: str

    @abstractmethod
    def frame(self, message: Message | str | bytes) -> bytes:
        """Return one message as bytes; a str or bytes is a message without a name."""

    def comment(self, text: str) -> bytes | None:
        """Return a comment, which clients skip, as bytes; None if the format has no comments."""
        return None


class ServerSentEvents(Framing):
    """Server-sent events. Source: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

    media_type = "text/event-stream"

    def frame(self, message: Message | str | bytes) -> bytes:
        if isinstance(message, str):
            return json_io.utf8(f"data: {message}\n\n")
        if isinstance(message, bytes):
            return b"data: %b\n\n" % message
        data = message.data if isinstance(message.data, str) else message.data.decode()
        name = f"event: {message.event}\n" if message.event else ""
        return json_io.utf8(f"{name}data: {data}\n\n")

    def comment(self, text: str) -> bytes:
        return json_io.utf8(f": {text}\n\n")


class NewlineDelimitedJson(Framing):
    """One JSON value per line."""

    media_type = "application/x-ndjson"

    def frame(self, message: Message | str | bytes) -> bytes:
        return _data(message) + b"\n"


class RawBytes(Framing):
    """The messages without any framing, for example audio while it is generated."""

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type

    def frame(self, message: Message | str | bytes) -> bytes:
        return _data(message)


def _data(message: Message | str | bytes) -> bytes:
    data = message.data if isinstance(message, Message) else message
    return data if isinstance(data, bytes) else json_io.utf8(data)


SSE = ServerSentEvents()
NDJSON = NewlineDelimitedJson()
Messages = Sequence[Message | str | bytes]


class Encoder(ABC, Generic[EventT]):
    """Encodes a reply's batches of events as the messages of a stream.

    `framing` is read when the first message is sent, so the media type may depend on the first events.
    """

    framing: Framing = SSE

    @abstractmethod
    def encode(self, events: Sequence[EventT]) -> Messages:
        """Return the messages for one batch, which may be none."""

    async def finish(self) -> Messages:
        """Return the last messages, after the last batch."""
        return ()

    async def fail(self, error: RequestError) -> Messages | None:
        """Return the last messages of a stream that fails; None aborts the connection.

        Formats without messages, such as audio, cannot report an error and must abort: the client then sees an
        incomplete response. By default OpenAI's error body is the last message.
        """
        if isinstance(self.framing, RawBytes):
            return None
        return (json_io.dumps(openai_body(error)),)


class Collector(ABC, Generic[EventT]):
    """Collects a reply into one response."""

    @abstractmethod
    def add(self, events: Sequence[EventT]) -> None:
        """Add one batch."""

    @abstractmethod
    async def response(self) -> Response:
        """Return the response, after the last batch."""

    async def fail(self, error: RequestError) -> Response | None:
        """Return the response for a request that fails; None, the default, sends the error."""
        return None


async def respond(
    http: Request,
    reply: Reply[EventT],
    output: Encoder[EventT] | Collector[EventT],
    headers: Mapping[str, str] = {},
    during: AbstractContextManager[object] | None = None,
) -> Response:
    """Return the response to a request: a stream for an Encoder, one object for a Collector.

    In both cases an error before the first output determines the status, the reply is closed when the client
    disconnects, and the reply's warning is sent in `x-mlx-host-warning` (in a stream: in a comment at the end). The
    context `during` is left when `finish`, `response` or `fail` has returned or the client has disconnected.
    """
    if isinstance(output, Encoder):
        return StreamResponse(reply, output, headers, during)
    with during or nullcontext():
        response = await while_connected(http.receive, _collected(reply, output))
    response.headers.update(headers)
    if reply.warning:
        response.headers[WARNING_HEADER] = header_value(reply.warning)
    return response


async def collect(reply: Reply[EventT], collector: Collector[EventT]) -> None:
    """Pass every batch of a reply to a collector."""
    async with reply:
        async for events in reply:
            collector.add(events)


async def _collected(reply: Reply[EventT], collector: Collector[EventT]) -> Response:
    try:
        await collect(reply, collector)
    except RequestError as error:
        if (response := await collector.fail(error)) is None:
            raise
        return response
    return await collector.response()


def header_value(text: str) -> str:
    """Escape text for a header or a comment: ASCII on one line."""
    return text.encode("ascii", "backslashreplace").decode().replace("\n", "\\n").replace("\r", "\\r")


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Await `work`; cancel it and raise ClientDisconnectError when the client disconnects."""
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait((task, disconnected), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnectError("The client closed the connection.")
    finally:
        for each in (task, disconnected):
            each.cancel()
        await asyncio.wait((task, disconnected))


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class StreamResponse(Response, Generic[EventT]):
    """Streams a reply.

    The status is sent with the first message, so an error before it is still sent with its own status. After
    `reply.keep_alive` seconds without a message a comment reports the progress; the first comment also sends the
    status.
    """

    def __init__(
        self,
        reply: Reply[EventT],
        encoder: Encoder[EventT],
        headers: Mapping[str, str],
        during: AbstractContextManager[object] | None = None,
    ) -> None:
        # Proxies such as nginx would otherwise buffer the stream.
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers})
        del self.headers["content-length"]
        self._reply = reply
        self._encoder = encoder
        self._during = during or nullcontext()
        self._started = False
        self._sending = asyncio.Lock()
        self._last_sent_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send_message = send
        abort = (scope.get("extensions") or {}).get(ABORT)
        self._abort = abort["close"] if abort is not None else None
        with suppress(ClientDisconnectError), self._during:
            await while_connected(receive, self._run())

    async def _run(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._last_sent_at = self._now()
        keep_alive = asyncio.ensure_future(self._keep_alive())
        try:
            completed = await self._send_all()
        finally:
            keep_alive.cancel()
        if completed:
            async with self._sending:
                await self._send_message({"type": "http.response.body", "body": b"", "more_body": False})
        elif self._abort is not None:
            self._abort()

    async def _send_all(self) -> bool:
        """Send all messages; False if the connection must be aborted."""
        try:
            async with self._reply as reply:
                async for events in reply:
                    await self._send(self._encoder.encode(events))
                if reply.warning:
                    await self._comment(f"{WARNING_HEADER}: {header_value(reply.warning)}")
                await self._send(await self._encoder.finish())
        except Exception as error:
            if not self._started:
                raise
            if not isinstance(error, RequestError):
                log.exception("unexpected error while streaming a response")
                error = InternalError(INTERNAL_ERROR)
            last = await self._encoder.fail(error)
            if last is None:
                return False
            await self._send(last)
        return True

    async def _keep_alive(self) -> None:
        while seconds := self._reply.keep_alive:
            await asyncio.sleep(self._last_sent_at + seconds - self._now())
            if self._now() - self._last_sent_at >= seconds:
                if self._encoder.framing.comment("") is None:
                    return
                await self._comment(str(self._reply.progress or "keep-alive"))

    async def _comment(self, text: str) -> None:
        comment = self._encoder.framing.comment(text)
        if comment is not None:
            async with self._sending:
                await self._write(comment)

    async def _send(self, messages: Iterable[Message | str | bytes]) -> None:
        frame = self._encoder.framing.frame
        if body := b"".join([frame(message) for message in messages]):
            async with self._sending:
                await self._write(body)

    async def _write(self, body: bytes) -> None:
        if not self._started:
            self.headers["content-type"] = self._encoder.framing.media_type
            start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await self._send_message(start)
            self._started = True
        await self._send_message({"type": "http.response.body", "body": body, "more_body": True})
        self._last_sent_at = self._now()

"""How HTTP/1.1 is spoken: uvicorn's way, but patient neither with who does not send nor with who does not read."""

from __future__ import annotations

import asyncio
from array import array
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mlx_host.api import errors, json_io
from mlx_host.errors import InvalidRequestError

# How long a request's head may take, and how large it may be.
HEAD_SECONDS = 30.0
HEAD_BYTES = 64 * 1024
# How long a client may read nothing of what waits for it.
READ_SECONDS = 60.0


class Parser(httptools.HttpRequestParser):
    """Reads a request that offers another protocol as if it did not.

    Clients written in Java offer HTTP/2 with any request. What follows the head is HTTP/1.1 all the same, but the
    parser would leave it unread.
    """

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._begin()

    def _begin(self) -> None:
        super().__init__(self._protocol)
        # As uvicorn has it: what was sent behind a request that closes the connection is no error.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes | bytearray | memoryview[int] | array[int]) -> None:
        while True:
            try:
                super().feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if not self._protocol.declines:
                    raise
                head = self._protocol.head_without_offer()
                data = head + bytes(data)[offer.args[0] :]
                self._begin()


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 whose heads come in time and are of a bearable size, and whose own refusals have OpenAI's body.

    A client that reads nothing of an answer for READ_SECONDS is cut off, for what it does not read is held here.
    """

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _running: RequestResponseCycle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.parser = Parser(self)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        self._is_read()
        super().connection_lost(exc)
        # uvicorn tells the newest request only, which is not the one that runs if the client sent another behind it.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        if not self.declines:
            self._head_arrived()
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.declines:
            super().on_message_complete()

    @property
    def declines(self) -> bool:
        """Whether the request being read offers another protocol; CONNECT offers nothing else."""
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def head_without_offer(self) -> bytes:
        """Write the head that was read, without what it offers."""
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        rest = [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([first, *rest, b"", b""])

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large.")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        self._is_read()
        super().resume_writing()

    def _expect_reading(self) -> None:
        """Nobody writes meanwhile, so what waits becomes less as soon as the client reads."""
        waits = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() < waits:
                self._expect_reading()
            else:
                self.transport.abort()

        self._read_timer = self.loop.call_later(READ_SECONDS, look)

    def _is_read(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _expect_head(self) -> None:
        self._head_arrived()
        self._in_head = True
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def _head_arrived(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self.transport.close()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        running = self._running
        if running is None or running.response_complete or not running.response_started:
            body = json_io.utf8(json_io.dumps(errors.openai_body(InvalidRequestError(message, code="invalid_http"))))
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        # Else an answer is on its way, and nothing must be written into it.
        self.transport.close()

"""uvicorn's HTTP/1.1 protocol with timeouts and limits against slow clients, and no upgrades but to WebSocket."""

from __future__ import annotations

import asyncio
from array import array
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mlx_host._host.request_log import RequestLog
from mlx_host._http.middleware import new_request_id
from mlx_host.api import errors, json_io
from mlx_host.api.responding import ABORT
from mlx_host.errors import InvalidRequestError

# Seconds in which a request's line and headers must arrive.
HEADER_TIMEOUT = 30.0
MAX_HEADER_BYTES = 64 * 1024
# Seconds after which a client that reads nothing of its response is disconnected, like nginx's `send_timeout`.
SEND_TIMEOUT = 60.0


class UpgradeTolerantParser(httptools.HttpRequestParser):
    """Parses a request that offers to upgrade the protocol as one without the offer.

    Java's HTTP client offers HTTP/2 with every request. The request itself is HTTP/1.1, but httptools stops after the
    headers of a request with an offer.
    """

    def __init__(self, protocol: TimeoutHttpProtocol) -> None:
        self._protocol = protocol
        self._reset()

    def _reset(self) -> None:
        super().__init__(self._protocol)
        # As in uvicorn: data after a request that closes the connection is ignored.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes | bytearray | memoryview[int] | array[int]) -> None:
        while True:
            try:
                super().feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self._protocol.ignores_upgrade:
                    raise
                head = self._protocol.head_without_upgrade()
                data = head + bytes(data)[upgrade.args[0] :]
                self._reset()


class TimeoutHttpProtocol(HttpToolsProtocol):
    """Limits the time and the size of a request's headers, and sends its own errors in OpenAI's format.

    A client that reads nothing of its response for SEND_TIMEOUT seconds is disconnected: what it does not read is
    buffered here.
    """

    _header_bytes = 0
    _header_timer: asyncio.TimerHandle | None = None
    _in_headers = True
    _running: RequestResponseCycle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = UpgradeTolerantParser(self)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        self._stop_send_timer()
        super().connection_lost(exc)
        # uvicorn notifies only the newest request; with pipelining an earlier one is running.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_header_timer()

    def on_headers_complete(self) -> None:
        if not self.ignores_upgrade:
            self._stop_header_timer()
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.ignores_upgrade:
            super().on_message_complete()

    @property
    def ignores_upgrade(self) -> bool:
        """Whether the current request offers an upgrade that is not to WebSocket, and is not CONNECT."""
        if not self.parser.should_upgrade() or self.parser.get_method() == b"CONNECT":
            return False
        names = {name for name, _ in self.headers}
        is_handshake = self.parser.get_method() == b"GET" and b"sec-websocket-key" in names
        return not (is_handshake and self._should_upgrade())

    def head_without_upgrade(self) -> bytes:
        """Return the request line and headers of the current request without the offer of an upgrade."""
        request_line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        headers = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([request_line, *headers, b"", b""])

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._reject(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The request's headers are too large; the limit is {MAX_HEADER_BYTES} bytes.",
            )

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_send_timer()

    def resume_writing(self) -> None:
        self._stop_send_timer()
        super().resume_writing()

    def _start_send_timer(self) -> None:
        # Nothing is written while writing is paused, so the buffer shrinks exactly if the client reads.
        buffered = self.transport.get_write_buffer_size()

        def check() -> None:
            if self.transport.get_write_buffer_size() < buffered:
                self._start_send_timer()
            else:
                self.transport.abort()

        self._send_timer = self.loop.call_later(SEND_TIMEOUT, check)

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.scope["extensions"] = {ABORT: {"close": lambda: self._abort(cycle)}}
        super()._start_asgi_task(cycle, app)

    def _abort(self, cycle: RequestResponseCycle) -> None:
        """Close the connection within a response; otherwise uvicorn would log an error before it does the same."""
        cycle.disconnected = True
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._reject(HTTPStatus.BAD_REQUEST, msg)

    def _start_header_timer(self) -> None:
        self._stop_header_timer()
        self._in_headers = True
        self._header_timer = self.loop.call_later(HEADER_TIMEOUT, self._close)

    def _stop_header_timer(self) -> None:
        self._in_headers = False
        self._header_bytes = 0
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _close(self) -> None:
        self.transport.close()

    def _reject(self, status: HTTPStatus, message: str) -> None:
        running = self._running
        # If a response has started, writing another one would corrupt it.
        if running is None or running.response_complete or not running.response_started:
            error = InvalidRequestError(message, code="invalid_http")
            body = json_io.utf8(json_io.dumps(errors.openai_body(error)))
            # Its line and headers are not known.
            entry = RequestLog(new_request_id(), "", "(invalid HTTP)", status=status.value, complete=True, error=error)
            entry.finish()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"x-request-id: {entry.id}\r\nrequest-id: {entry.id}\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

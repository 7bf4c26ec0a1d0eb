"""Connections: upgrade offers, tunnels, and clients that do not read or read slowly."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from mlx_host._http import http_protocol
from mlx_host._http.server import Server, bind
from mlx_host.api.responding import StreamResponse
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.support.client import connection, head, post, read_all, read_until, text_script
from tests.support.fake_service import ListedReply, Verbatim
from tests.support.server import ServerProcess

BODY = json.dumps({"messages": text_script("hello")}).encode()
OFFER = b"\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n\r\n"
# More than fits into the buffers between two sockets.
LARGE = 32_000_000


def offering(whole: bytes) -> bytes:
    """The same request with an offer to upgrade to HTTP/2, as Java's HTTP client sends it."""
    return whole.replace(b"\r\n\r\n", OFFER, 1)


def chunked(body: bytes) -> bytes:
    lines = head(body).split(b"\r\n")
    lines[-3] = b"transfer-encoding: chunked"
    return b"\r\n".join(lines) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("whole", [head(BODY) + BODY, chunked(BODY)], ids=["length", "chunked"])
def test_upgrade_offers_are_ignored(server: ServerProcess, whole: bytes) -> None:
    sent, logged = offering(whole), len(server.lines)
    for cut in (0, 40, sent.index(b"h2c"), sent.index(b"\r\n\r\n") + 4, len(sent) - 9):
        with connection(server) as bare:
            bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The connection stays usable, for requests with and without an offer, also pipelined.
            for piece in (sent[:cut], sent[cut:] + sent + whole):
                bare.sendall(piece)
            responses = b""
            while responses.count(b'"content":"hello"') < 3:
                responses += read_until(bare, b'"content":"hello"')
            assert responses.count(b"HTTP/1.1 200 OK") == 3
    assert not any("upgrade" in line for line in server.lines[logged:])


def test_connect_is_rejected(server: ServerProcess) -> None:
    for where in (b"host:443", b"/v1/models"):
        with connection(server) as bare:
            bare.sendall(b"CONNECT %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % where)
            assert read_all(bare).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 405 "))
    assert post(server, {"messages": text_script("hi")}).status_code == 200


def serving(app: ASGIApp, client: Callable[[socket.socket, Server], Coroutine[Any, Any, None]]) -> None:
    """Serve `app` to one connection."""

    async def main() -> None:
        with bind("127.0.0.1", 0) as listening, socket.socket() as connected:
            http = Server(app)
            running = asyncio.create_task(http.serve(sockets=[listening]))
            connected.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connected, listening.getsockname())
            await asyncio.wait_for(client(connected, http), 60)
            http.should_exit = True
            await running

    asyncio.run(main())


def large_stream() -> StreamResponse[str]:
    return StreamResponse(ListedReply([["x" * LARGE], ["more"], asyncio.Event()]), Verbatim(), {})


@pytest.mark.parametrize("streamed", [False, True])
def test_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch, streamed: bool) -> None:
    monkeypatch.setattr(http_protocol, "SEND_TIMEOUT", 0.05)
    over = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = large_stream() if streamed else PlainTextResponse("x" * LARGE)
        await response(scope, receive, send)
        over.set()

    async def client(connected: socket.socket, http: Server) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connected, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await over.wait()
        while http.server_state.connections:
            await asyncio.sleep(0.005)
        come = 0
        while piece := await loop.sock_recv(connected, 1 << 20):
            come += len(piece)
        assert 0 < come < LARGE

    serving(app, client)


def test_client_that_reads_slowly_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "SEND_TIMEOUT", 1.0)

    async def client(connected: socket.socket, http: Server) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connected, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        come, began = 0, loop.time()
        while piece := await loop.sock_recv(connected, 1 << 16):
            come += len(piece)
            # In total three times the write timeout.
            await asyncio.sleep(3 * come / LARGE - (loop.time() - began))
        assert come > LARGE

    serving(PlainTextResponse("x" * LARGE), client)

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator

import pytest
from mlx_host._bench.http_client import Clock, RawResponse, Target, send_request
from mlx_host.errors import UsageError

from tests.support.stub_server import STREAM_HEAD, Script, serving


class Ticks:
    """A clock that advances by one each time it is read; a server can wait for a time."""

    def __init__(self) -> None:
        self._now = 0
        self._read = threading.Condition()

    def __call__(self) -> float:
        with self._read:
            self._now += 1
            self._read.notify_all()
            return float(self._now)

    def wait_for(self, now: int) -> None:
        with self._read:
            assert self._read.wait_for(lambda: self._now >= now, timeout=30)


def send(script: Script, clock: Clock, timeout: float = 30) -> RawResponse:
    with serving(script) as url:
        target = Target.parse(url)
        return asyncio.run(send_request(target, target.request("POST", "/x", b"{}"), clock=clock, timeout=timeout))


@pytest.mark.parametrize("chunked", [True, False])
def test_each_piece_has_its_time_of_arrival(chunked: bool) -> None:
    clock = Ticks()

    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if chunked else STREAM_HEAD
        for reading, text in ((2, b"one"), (3, b"two")):
            yield head + (b"3\r\n%s\r\n" % text if chunked else text)
            head = b""
            await asyncio.to_thread(clock.wait_for, reading)
        if chunked:
            yield b"0\r\n\r\n"

    recording = send(script, clock)
    assert recording.status == 200
    assert recording.sent == 1
    assert recording.pieces == [(2, b"one"), (3, b"two")]
    assert recording.ended > 3
    assert recording.failure is None


def test_a_refused_connection_is_reported() -> None:
    async def send_to_closed_port() -> RawResponse:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        target = Target("127.0.0.1", port, "/v1")
        return await send_request(target, target.request("GET", "/models"), clock=Ticks(), timeout=30)

    recording = asyncio.run(send_to_closed_port())
    assert (recording.status, recording.failure) == (0, "connection failed: Connection refused")


def test_a_timeout_is_reported() -> None:
    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        yield STREAM_HEAD + b"begun"
        await asyncio.Event().wait()

    assert send(script, Ticks(), timeout=0.05).failure == "no complete response within 0.05 s"


def test_an_invalid_http_response_is_reported() -> None:
    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        yield b"220 mail.example ESMTP\r\n"

    failure = send(script, Ticks()).failure
    assert failure is not None
    assert failure.startswith("the response is not HTTP")


def test_the_request_is_valid_and_has_the_api_key() -> None:
    target = Target.parse("http://example.test/v1", api_key="secret")
    head, body = target.request("POST", "/chat/completions", b'{"a": 1}').split(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: example.test:80",
        "Connection: close",
        "Authorization: Bearer secret",
        "Content-Type: application/json",
        "Content-Length: 8",
    ]
    assert body == b'{"a": 1}'


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("http://localhost/llm", "http://localhost:80/llm/v1"),
        ("https://[::1]/v1", "https://[::1]:443/v1"),
    ],
)
def test_the_path_ends_in_v1(given: str, meant: str) -> None:
    assert Target.parse(given).url == meant


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://127.0.0.1:port", "http://["])
def test_an_invalid_url_is_an_error_with_an_example(url: str) -> None:
    with pytest.raises(UsageError, match=re.escape(url)):
        Target.parse(url)

"""Byte streams of a third-party API on the real server: `RawBytes` has the guarantees of an event stream.

A rejection before the first byte has its own status and body, nothing but the API's bytes is in the stream, a
disconnect cancels the request, and an error after the first byte aborts the connection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.client import (
    CHAT,
    connection,
    error_of,
    get,
    head,
    post,
    read_all,
    read_until,
    script,
    wait_for_queue,
)
from tests.support.plugin_projects import install_plugins
from tests.support.server import ServerProcess, running_server

BYTES = "/toy/bytes"
PLUGIN = '''
from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from mlx_host import hookimpl
from mlx_host.api import Api, ApiSettings, Deadline, Endpoints
from mlx_host.api.http import Encoder, RawBytes, caller, new_router, respond
from mlx_host.events import Event, Started, TextDelta
from mlx_host.requests import ChatRequest
from pydantic import BaseModel


class ToyBody(BaseModel):
    messages: list[Any]


class ByteEncoder(Encoder[Event]):
    """Writes the text of the model as bytes; the media type is only known with the first event."""

    framing = RawBytes("application/octet-stream")

    def encode(self, events):
        if any(isinstance(event, Started) for event in events):
            self.framing = RawBytes("audio/toy")
        return [event.text.encode() for event in events if isinstance(event, TextDelta)]


class ToyEndpoints(Endpoints):
    def __init__(self, service):
        self._service = service
        self._requests = 0

    def router(self) -> APIRouter:
        router = new_router()
        router.post("/toy/bytes", response_model=None)(self.stream)
        return router

    async def stream(self, body: ToyBody, http: Request) -> Response:
        self._requests += 1
        request = ChatRequest(id=f"toy-{self._requests}", model="", messages=body.messages)
        reply = self._service.submit(request, caller=caller(http), deadline=Deadline.of(stream=True))
        return await respond(http, reply, ByteEncoder(), {"x-toy": "1"})


@hookimpl
def register_apis():
    create = lambda service, settings: ToyEndpoints(service)
    return [Api(name="toy", settings=ApiSettings, create=create, prefixes=("/toy",))]
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A scripted model behind the toy API; streams that have comments send them ten times a second."""
    installed = install_plugins(tmp_path_factory.mktemp("toy"), {"toy": PLUGIN})
    with running_server(
        *("--backend", "scripted", "--slots", "4", "--keep-alive", "0.1"), plugins=[installed]
    ) as running:
        yield running


def body(*steps: list[Any]) -> dict[str, Any]:
    return {"messages": script(*steps)}


@contextmanager
def byte_stream(server: ServerProcess, *steps: list[Any]) -> Iterator[httpx2.Response]:
    with httpx2.stream("POST", f"{server.url}{BYTES}", json=body(*steps), timeout=60, verify=False) as response:
        yield response


def wait_for_comments(server: ServerProcess, release: Path) -> None:
    """Wait until an idle event stream has sent three comments; a byte stream opened before it is idle for as long."""
    steps = body(["text", "a"], ["until", str(release)])
    with httpx2.stream("POST", f"{server.url}{CHAT}", json={**steps, "stream": True}, timeout=60) as response:
        comments = 0
        for line in response.iter_lines():
            comments += line.startswith(":")
            if comments == 3:
                return
    raise AssertionError("the stream ended")


def test_a_stream_has_the_api_s_bytes_and_media_type(server: ServerProcess) -> None:
    response = post(server, body(["text", "abc"], ["progress", 1, 2], ["text", "\n\0é"]), BYTES)
    assert response.content == "abc\n\0é".encode()
    assert response.headers["content-type"] == "audio/toy"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-toy"] == "1"
    assert "content-length" not in response.headers


@pytest.mark.parametrize(
    ("steps", "status", "words"),
    [
        ([["reject", "not this"]], 400, "not this"),
        ([["fail", "broken"]], 500, "broken"),
        ([["before_start", ["fail", "broken"]]], 500, "broken"),
    ],
)
def test_a_rejection_before_the_first_byte_has_its_own_status(
    server: ServerProcess, steps: list[list[Any]], status: int, words: str
) -> None:
    assert words in error_of(post(server, body(*steps), BYTES), status)["message"]


@pytest.mark.parametrize("steps", [[], [["text", "a"]]], ids=["before the first byte", "after it"])
def test_a_silent_stream_has_no_comments(server: ServerProcess, tmp_path: Path, steps: list[list[Any]]) -> None:
    release = tmp_path / "release"
    with ThreadPoolExecutor() as pool:
        response = pool.submit(post, server, body(*steps, ["until", str(release)], ["text", "b"]), BYTES)
        wait_for_queue(server, 1)
        wait_for_comments(server, release)
        assert not response.done()
        release.touch()
        assert response.result().content == (b"ab" if steps else b"b")


def test_an_error_after_keep_alive_time_but_before_the_first_byte_is_still_a_rejection(
    server: ServerProcess, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    with ThreadPoolExecutor() as pool:
        response = pool.submit(post, server, body(["until", str(release)], ["fail", "broken"]), BYTES)
        wait_for_queue(server, 1)
        wait_for_comments(server, release)
        release.touch()
        assert "broken" in error_of(response.result(), 500)["message"]


def test_disconnecting_cancels_the_request(server: ServerProcess, tmp_path: Path) -> None:
    with byte_stream(server, ["text", "a"], ["until", str(tmp_path / "never")]) as response:
        chunks = response.iter_bytes()
        assert next(chunks) == b"a"
        wait_for_queue(server, 1)
    wait_for_queue(server, 0)


def test_disconnecting_before_the_first_byte_cancels_the_request(server: ServerProcess, tmp_path: Path) -> None:
    content = json.dumps(body(["until", str(tmp_path / "never")])).encode()
    with connection(server) as connected:
        connected.sendall(head(content, BYTES) + content)
        wait_for_queue(server, 1)
    wait_for_queue(server, 0)


def test_an_error_after_the_first_byte_aborts_the_connection(server: ServerProcess, tmp_path: Path) -> None:
    release = tmp_path / "release"
    with byte_stream(server, ["text", "a"], ["until", str(release)], ["fail", "broken"]) as response:
        assert response.status_code == 200
        chunks = response.iter_bytes()
        assert next(chunks) == b"a"
        release.touch()
        with pytest.raises(httpx2.RemoteProtocolError):
            next(chunks)
    server.wait_for_line("error=engine_failed")
    assert get(server, "/health").status_code == 200
    assert [line for line in server.lines if "uvicorn" in line] == []


def test_an_aborted_stream_has_no_last_chunk(server: ServerProcess, tmp_path: Path) -> None:
    release = tmp_path / "release"
    content = json.dumps(body(["text", "a"], ["until", str(release)], ["fail", "broken"])).encode()
    with connection(server) as connected:
        connected.sendall(head(content, BYTES) + content)
        beginning = read_until(connected, b"\r\n\r\n1\r\na\r\n")
        release.touch()
        rest = read_all(connected)
    assert beginning.startswith(b"HTTP/1.1 200")
    assert b"transfer-encoding: chunked" in beginning.lower()
    assert rest == b""

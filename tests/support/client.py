"""Test clients of a running server: scripts for the scripted backend, raw HTTP, parsed streams, and conditions."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import psutil

from tests.support.server import ServerProcess

CHAT = "/v1/chat/completions"


def script(*steps: list[Any]) -> list[Any]:
    """Messages that make the scripted backend execute these steps."""
    return [{"role": "user", "content": json.dumps(steps)}]


def text_script(*pieces: str) -> list[Any]:
    """Messages that make the scripted backend emit these texts."""
    return script(*(["text", piece] for piece in pieces))


# `verify=False`: nothing is encrypted here, and loading certificates takes longer than most requests.


class Http(httpx2.Client):
    """Closes its connections when it is garbage-collected, like a client created by the SDK."""

    def __del__(self) -> None:
        self.close()


def sdk(server: ServerProcess) -> openai.OpenAI:
    """OpenAI's client, without retries."""
    http = Http(verify=False)
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60, http_client=http)


def post(server: ServerProcess, body: Any, path: str = CHAT, **more: Any) -> httpx2.Response:
    """Post JSON."""
    return httpx2.post(f"{server.url}{path}", json=body, timeout=60, verify=False, **more)


def get(server: ServerProcess, path: str) -> httpx2.Response:
    return httpx2.get(f"{server.url}{path}", timeout=60, verify=False)


def events(text: str) -> list[Any]:
    """The parsed data of a stream's events, without comments and the final [DONE], which is required."""
    assert text.endswith("\n\n")
    blocks = [block for block in text[:-2].split("\n\n") if not block.startswith(":")]
    assert all(block.startswith("data: ") for block in blocks)
    data = [block.removeprefix("data: ") for block in blocks]
    assert data[-1] == "[DONE]"
    return [json.loads(each) for each in data[:-1]]


def error_of(response: httpx2.Response, status: int) -> dict[str, Any]:
    """The error of a response, after checking its status and format."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert list(response.json()) == ["error"]
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


def eventually(condition: Callable[[], Any], timeout: float = 60.0) -> Any:
    """Wait until a condition is true, and return its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {condition}"
        time.sleep(0.005)
    return value


def queue(server: ServerProcess, model: str | None = None) -> tuple[int, int]:
    """The numbers of running and queued requests."""
    stats = get(server, "/v1/queue/stats").json()
    counts = stats["queue_stats"] if model is None else stats["models"][model]
    return counts["active_requests"], counts["queue_size"]


def wait_for_queue(server: ServerProcess, running: int, waiting: int = 0) -> None:
    """Wait until this many requests are running and queued."""
    eventually(lambda: queue(server) == (running, waiting))


def children(server: ServerProcess) -> list[psutil.Process]:
    """The worker processes of a server."""
    return [
        child
        for child in psutil.Process(server.process.pid).children()
        if any("mlx_host._engine.worker_main" in arg for arg in child.cmdline())
    ]


def head(body: bytes, path: str = CHAT, content_length: int | None = None) -> bytes:
    """The head of a POST with this body."""
    length = len(body) if content_length is None else content_length
    return (
        f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def request_bytes(body: Any) -> bytes:
    """A complete POST of JSON to the chat endpoint."""
    encoded = json.dumps(body).encode()
    return head(encoded) + encoded


@contextmanager
def connection(server: ServerProcess) -> Iterator[socket.socket]:
    """A TCP connection to the server."""
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=60) as connected:
        yield connected


def read_until(connected: socket.socket, part: bytes) -> bytes:
    """Read until `part` was received; fail if the connection ends first."""
    received = b""
    while part not in received:
        piece = connected.recv(65536)
        assert piece, f"the connection ended after {received!r}"
        received += piece
    return received


def read_all(connected: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = b""
    while piece := connected.recv(65536):
        received += piece
    return received

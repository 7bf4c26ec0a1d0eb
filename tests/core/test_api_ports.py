"""An API with a dedicated port: only that API is served at it; the server's port still has all APIs."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx2
import pytest

from tests.support.command import mlx_host, usage_error_of
from tests.support.server import ServerProcess, running_server

BODY = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--backend", "echo", "--chat-port", "0") as server:
        yield server


@pytest.fixture(scope="module")
def own(server: ServerProcess) -> str:
    return server.wait_for_line("also serving chat at ").rpartition(" at ")[2]


def test_the_api_is_served_at_both_ports(server: ServerProcess, own: str) -> None:
    assert own != server.url
    for url in (server.url, own):
        assert httpx2.post(f"{url}/v1/chat/completions", json=BODY).status_code == 200


def test_the_other_apis_are_not_served_at_its_port(server: ServerProcess, own: str) -> None:
    assert httpx2.get(f"{server.url}/v1/models").status_code == 200
    response = httpx2.get(f"{own}/v1/models")
    assert response.status_code == 404
    assert "GET /v1/models" in response.json()["error"]["message"]


def test_the_middleware_is_the_same(own: str) -> None:
    response = httpx2.post(f"{own}/v1/chat/completions", json={})
    assert response.status_code == 400
    assert response.headers["x-request-id"].startswith("req_")


def test_a_port_that_is_taken_names_its_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        args = ("run", "--backend", "echo", "--port", "0", "--chat-port", port)
        assert usage_error_of(mlx_host(*args)).endswith("Choose another --chat-port.")

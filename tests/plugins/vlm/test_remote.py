"""Files are fetched from public addresses, within limits; every server here is on loopback."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlx_host.errors import InvalidRequest
from mlx_host_vlm.media.remote import Fetcher, Limits, is_public
from mlx_host_vlm.media.unusable import Unusable

from tests.plugins.lm.driver import Round, ask
from tests.plugins.vlm.conftest import load
from tests.support.media import picture_part

BODY = b"picture" * 100


class Handler(BaseHTTPRequestHandler):
    """Answers by path; what it was asked is in the server's `seen`."""

    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Host")))
        path, _, query = self.path.partition("?")
        match path:
            case "/ok":
                self._send(200, BODY)
            case "/to":
                self._send(302, b"", Location=query)
            case "/again":
                self._send(302, b"", Location="/again")
            case "/claims":
                self._send(200, b"x", **{"Content-Length": "999999999"})
            case "/endless":
                self.send_response(200)
                self.end_headers()
                while True:
                    try:
                        self.wfile.write(b"x" * 4096)
                    except OSError:
                        return
            case "/slow":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"x")
                self.server.over.wait(30)
            case "/drips":
                self.send_response(200)
                self.end_headers()
                self._drip()
            case "/drips-before":
                self._drip()
            case _:
                self._send(404, b"no")

    def _drip(self) -> None:
        """Send a byte now and then, for longer than anybody here waits."""
        with suppress(OSError):
            for _ in range(100):
                self.wfile.write(b"H")
                if self.server.over.wait(0.02):
                    return

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str | None]] = []
        self.over = threading.Event()
        self.root = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def fetch(url: str, *trusted: str, **limits: Any) -> bytes:
    return Fetcher(Limits(**limits), trusted).fetch(url)


def test_a_private_address_is_refused_and_not_asked(server: Server) -> None:
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(Unusable, match="is not public"):
            fetch(f"http://{host}:{server.server_port}/ok")
    assert server.seen == []


def test_a_trusted_host_is_fetched_from_by_its_own_name(server: Server) -> None:
    assert fetch(f"http://LocalHost:{server.server_port}/ok?a=b c", "localhost") == BODY
    assert server.seen == [("/ok?a=b%20c", f"localhost:{server.server_port}")]


def test_a_redirect_is_followed_within_what_is_trusted(server: Server) -> None:
    assert fetch(f"{server.root}/to?/ok", "127.0.0.1") == BODY


def test_a_redirect_to_a_private_address_is_refused(server: Server) -> None:
    target = f"http://localhost:{server.server_port}/ok"
    with pytest.raises(Unusable, match=r"'localhost' has an address that is not public"):
        fetch(f"{server.root}/to?{target}", "127.0.0.1")
    assert [path for path, _ in server.seen] == [f"/to?{target}"]


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "//user@127.0.0.1/"]
)
def test_a_redirect_to_another_kind_of_url_is_refused(server: Server, target: str) -> None:
    with pytest.raises(Unusable, match=r"no http or https URL|user name"):
        fetch(f"{server.root}/to?{target}", "127.0.0.1")


def test_redirects_have_an_end(server: Server) -> None:
    with pytest.raises(Unusable, match="one redirect too many; 3 are followed"):
        fetch(f"{server.root}/again", "127.0.0.1")
    assert len(server.seen) == 4


@pytest.mark.parametrize("path", ["/claims", "/endless"])
def test_a_file_that_is_too_large_is_left(server: Server, path: str) -> None:
    with pytest.raises(Unusable, match="10000"):
        fetch(f"{server.root}{path}", "127.0.0.1", size=10_000)


@pytest.mark.parametrize("path", ["/slow", "/drips", "/drips-before"])
def test_a_server_that_does_not_go_on_is_left(server: Server, path: str) -> None:
    with pytest.raises(Unusable, match=r"within 0\.2 seconds"):
        fetch(f"{server.root}{path}", "127.0.0.1", seconds=0.2)


def test_a_host_is_tried_by_all_its_addresses(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def two(host: str, *args: Any, **more: Any) -> list[Any]:
        addresses = ["127.0.0.2", "127.0.0.1"] if host == "two.example" else [host]
        return [found for address in addresses for found in resolve(address, *args, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    assert fetch(f"http://two.example:{server.server_port}/ok", "two.example") == BODY


def test_what_the_server_refuses_is_said(server: Server) -> None:
    with pytest.raises(Unusable, match="404 Not Found"):
        fetch(f"{server.root}/missing", "127.0.0.1")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://[",
        "http://127.0.0.1:99999/",
        "gopher://x/",
        "http://no-such-host.invalid/",
        "http://a b/",
        "x",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Unusable):
        fetch(url, "127.0.0.1")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.5.5", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1"),
        *("::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_download_does_not_hold_up_other_answers(server: Server, tiny_qwen: Path) -> None:
    model = load(tiny_qwen, allow_remote_media=True, trusted_media_hosts=["127.0.0.1"])
    try:
        together = Round(model)
        waits = together.join(ask([{"role": "user", "content": [picture_part(f"{server.root}/slow")]}]))
        other = together.join(ask("Hello"))
        while other.finished is None:
            together.turn()
        assert waits.started is None
        server.over.set()
        with pytest.raises(InvalidRequest, match="the server sent 1 of 100 bytes"):
            together.finish()
    finally:
        model.close()

"""Images are downloaded from public addresses, within limits; the test servers are on loopback addresses."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from mlx_host_media.errors import MediaError
from mlx_host_media.fetcher import Fetcher, FetchLimits, is_public

from tests.support.misbehaving_server import BODY, MisbehavingServer, running_misbehaving_server


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with running_misbehaving_server() as server:
        yield server


def fetch(url: str, *trusted: str, **limits: Any) -> bytes:
    return Fetcher(FetchLimits(**limits), trusted).fetch(url)


def test_a_private_address_is_rejected_without_a_request(server: MisbehavingServer) -> None:
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(MediaError, match=re.escape(host)):
            fetch(f"http://{host}:{server.server_port}/ok")
    assert server.seen == []


def test_a_trusted_host_receives_the_host_header(server: MisbehavingServer) -> None:
    assert fetch(f"http://LocalHost:{server.server_port}/ok?a=b c", "localhost") == BODY
    assert server.seen == [("/ok?a=b%20c", f"localhost:{server.server_port}")]


def test_a_redirect_to_a_trusted_host_is_followed(server: MisbehavingServer) -> None:
    assert fetch(f"{server.root}/to?/ok", "127.0.0.1") == BODY


def test_a_redirect_to_a_private_address_is_rejected(server: MisbehavingServer) -> None:
    target = f"http://localhost:{server.server_port}/ok"
    with pytest.raises(MediaError, match="'localhost'"):
        fetch(f"{server.root}/to?{target}", "127.0.0.1")
    assert [path for path, _ in server.seen] == [f"/to?{target}"]


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "//user@127.0.0.1/"]
)
def test_a_redirect_to_another_scheme_is_rejected(server: MisbehavingServer, target: str) -> None:
    with pytest.raises(MediaError, match=r"https URL|user name"):
        fetch(f"{server.root}/to?{target}", "127.0.0.1")


def test_the_number_of_redirects_is_limited(server: MisbehavingServer) -> None:
    with pytest.raises(MediaError, match="3 redirects"):
        fetch(f"{server.root}/again", "127.0.0.1")
    assert len(server.seen) == 4


@pytest.mark.parametrize("path", ["/claims", "/endless"])
def test_the_size_of_a_file_is_limited(server: MisbehavingServer, path: str) -> None:
    with pytest.raises(MediaError, match="10000") as error:
        fetch(f"{server.root}{path}", "127.0.0.1", max_bytes=10_000)
    assert error.value.code == "image_too_large"


@pytest.mark.parametrize("path", ["/slow", "/drips", "/drips-before"])
def test_the_time_for_a_file_is_limited(server: MisbehavingServer, path: str) -> None:
    with pytest.raises(MediaError, match=r"within 0\.2 seconds"):
        fetch(f"{server.root}{path}", "127.0.0.1", timeout=0.2)


def test_all_addresses_of_a_host_are_tried(server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def two_addresses(host: str, *args: Any, **kwargs: Any) -> list[Any]:
        addresses = ["127.0.0.2", "127.0.0.1"] if host == "two.example" else [host]
        return [info for address in addresses for info in resolve(address, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    assert fetch(f"http://two.example:{server.server_port}/ok", "two.example") == BODY


def test_the_status_of_the_server_is_reported(server: MisbehavingServer) -> None:
    with pytest.raises(MediaError, match="404 Not Found") as error:
        fetch(f"{server.root}/missing", "127.0.0.1")
    assert error.value.code == "failed_to_download_image"


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
def test_invalid_urls_are_rejected(url: str) -> None:
    with pytest.raises(MediaError):
        fetch(url, "127.0.0.1")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.5.5", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1"),
        *("::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
def test_non_public_addresses(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))

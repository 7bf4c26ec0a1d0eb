"""Fetches files over HTTP for clients that are not trusted: from public addresses, within limits of size and time.

The address that was checked is the one that is connected to, so a name that resolves differently a moment later gains
nothing; every redirect is checked anew. Proxies and credentials of the environment are not used.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from mlx_host_vlm.media.unusable import Unusable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)
CHUNK = 64 * 1024
# Addresses behind which a translator may reach an IPv4 address that is written in them.
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Limits:
    """For one file, redirects included."""

    size: int = 32_000_000
    seconds: float = 20.0
    redirects: int = 3


class Fetcher:
    """Fetches from public addresses, and from `trusted` hosts wherever they are."""

    def __init__(self, limits: Limits, trusted: Collection[str] = ()) -> None:
        self._limits = limits
        self._trusted = {host.lower() for host in trusted}

    def fetch(self, url: str) -> bytes:
        """The body that a GET of `url` gives; Unusable says why there is none."""
        deadline = time.monotonic() + self._limits.seconds
        try:
            for _ in range(self._limits.redirects + 1):
                parts = _split(url)
                with self._connect(parts, deadline) as line, _cut_off(line, deadline):
                    found = self._get(parts, line)
                # What was cut off can look like an end.
                _left(deadline)
                if isinstance(found, bytes):
                    return found
                url = urljoin(url, found)
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
            if time.monotonic() >= deadline:
                raise Unusable(f"{_shown(url)} could not be fetched within {self._limits.seconds:g} seconds") from None
            raise Unusable(f"{_shown(url)} could not be fetched: {type(error).__name__}: {error}") from None
        raise Unusable(f"{_shown(url)} is one redirect too many; {self._limits.redirects} are followed")

    def _connect(self, parts: SplitResult, deadline: float) -> socket.socket:
        """A connection to the first of a host's addresses that takes one, if all are public."""
        host, port = _host(parts), parts.port or PORTS[parts.scheme]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
        if host.lower() not in self._trusted and not all(map(is_public, addresses)):
            raise Unusable(f"{host!r} has an address that is not public; such hosts are not fetched from")
        failure = OSError("it has no address")
        for address in addresses:
            try:
                return socket.create_connection((str(address), port), timeout=_left(deadline))
            except OSError as error:
                failure = error
        raise failure

    def _get(self, parts: SplitResult, line: socket.socket) -> bytes | str:
        """The body, or where it is to be had."""
        host = _host(parts)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, parts.port, context=context)
            connection.sock = context.wrap_socket(line, server_hostname=host)
        else:
            connection = http.client.HTTPConnection(host, parts.port)
            connection.sock = line
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}".replace(" ", "%20")
        headers = {"Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity", "User-Agent": "mlx-host"}
        try:
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            location = response.getheader("Location")
            return location if response.status in REDIRECTS and location else self._read(response)
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if response.status != http.client.OK:
            raise Unusable(f"the server answers {response.status} {response.reason}")
        most = self._limits.size
        declared = response.getheader("Content-Length", "")
        length = int(declared) if declared.isdecimal() else None
        if length is not None and length > most:
            raise Unusable(f"the file has {length} bytes, and {most} are taken")
        body = bytearray()
        while chunk := response.read1(CHUNK):
            body += chunk
            if len(body) > most:
                raise Unusable(f"the file has more than {most} bytes")
        # read1 takes a connection that is closed too early for the end.
        if length is not None and len(body) < length:
            raise OSError(f"the server sent {len(body)} of {length} bytes")
        return bytes(body)


def is_public(address: Address) -> bool:
    """Whether anybody can reach an address, so that fetching from it on somebody's behalf tells them nothing."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise Unusable(f"{_shown(url)} is no http or https URL")
    if parts.username is not None:
        raise Unusable("URLs with a user name are not fetched")
    return parts


def _host(parts: SplitResult) -> str:
    return parts.hostname or ""


@contextmanager
def _cut_off(line: socket.socket, deadline: float) -> Iterator[None]:
    """End a connection at the deadline, however busily the other side sends next to nothing."""
    # TLS takes the socket over, but this one stays.
    with line.dup() as copy:

        def cut() -> None:
            with suppress(OSError):
                copy.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(_left(deadline), cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _shown(url: str) -> str:
    return repr(url if len(url) <= 80 else f"{url[:77]}...")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left

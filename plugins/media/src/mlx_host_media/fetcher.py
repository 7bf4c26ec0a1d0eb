"""Fetches images over HTTP on behalf of untrusted clients: from public addresses, within limits of size and time.

The address that was checked is the one that is connected to, so that DNS rebinding has no effect; each redirect is
checked as well. Proxies and credentials from the environment are not used.
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

from mlx_host_media.errors import Code, MediaError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS = {"http": 80, "https": 443}
REDIRECT_STATUSES = (301, 302, 303, 307, 308)
CHUNK_SIZE = 64 * 1024
# NAT64 addresses, which contain an IPv4 address.
NAT64_NETWORK = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class FetchLimits:
    """Limits for one file: bytes, seconds in all with redirects, and redirects."""

    max_bytes: int = 32_000_000
    timeout: float = 20.0
    max_redirects: int = 3


class Fetcher:
    """Fetches from public addresses, and from `trusted_hosts` whatever their address is."""

    def __init__(self, limits: FetchLimits, trusted_hosts: Collection[str] = ()) -> None:
        self._limits = limits
        self._trusted_hosts = {host.lower() for host in trusted_hosts}

    def fetch(self, url: str) -> bytes:
        """Return the body of a GET of `url`; raises MediaError `failed_to_download_image` or `image_too_large`."""
        deadline = time.monotonic() + self._limits.timeout
        try:
            for _ in range(self._limits.max_redirects + 1):
                parts = _split(url)
                with self._connect(parts, deadline) as connection, _cut_off(connection, deadline):
                    result = self._get(parts, connection)
                # A connection that was cut off can look like the end of the body.
                _left(deadline)
                if isinstance(result, bytes):
                    return result
                url = urljoin(url, result)
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
            if time.monotonic() >= deadline:
                raise _failed(f"{_short(url)} could not be fetched within {self._limits.timeout:g} seconds") from None
            raise _failed(f"{_short(url)} could not be fetched: {type(error).__name__}: {error}") from None
        raise _failed(f"{_short(url)} exceeds the limit of {self._limits.max_redirects} redirects")

    def _connect(self, parts: SplitResult, deadline: float) -> socket.socket:
        """Connect to the first of a host's addresses that accepts, if all are public."""
        host, port = _host(parts), parts.port or PORTS[parts.scheme]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
        if host.lower() not in self._trusted_hosts and not all(map(is_public, addresses)):
            raise _failed(f"{host!r} has an address that is not public, and is not a trusted host")
        failure = OSError("the host has no address")
        for address in addresses:
            try:
                return socket.create_connection((str(address), port), timeout=_left(deadline))
            except OSError as error:
                failure = error
        raise failure

    def _get(self, parts: SplitResult, sock: socket.socket) -> bytes | str:
        """Return the body, or the location that the server redirects to."""
        host = _host(parts)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, parts.port, context=context)
            connection.sock = context.wrap_socket(sock, server_hostname=host)
        else:
            connection = http.client.HTTPConnection(host, parts.port)
            connection.sock = sock
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}".replace(" ", "%20")
        headers = {"Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity", "User-Agent": "mlx-host"}
        try:
            connection.request("GET", target, headers=headers)
            with connection.getresponse() as response:
                location = response.getheader("Location")
                return location if response.status in REDIRECT_STATUSES and location else self._read(response)
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if response.status != http.client.OK:
            raise _failed(f"the server responded with {response.status} {response.reason}")
        max_bytes = self._limits.max_bytes
        declared = response.getheader("Content-Length", "")
        length = int(declared) if declared.isdecimal() else None
        if length is not None and length > max_bytes:
            raise _too_large(max_bytes)
        body = bytearray()
        while chunk := response.read1(CHUNK_SIZE):
            body += chunk
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
        # read1 takes a connection that was closed too early for the end.
        if length is not None and len(body) < length:
            raise OSError(f"the server sent {len(body)} of {length} bytes")
        return bytes(body)


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, so that fetching from it gives a client no access that it lacks."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in NAT64_NETWORK:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise _failed(f"{_short(url)} is not an http or https URL")
    if parts.username is not None:
        raise _failed("URLs with a user name are not supported")
    return parts


def _host(parts: SplitResult) -> str:
    return parts.hostname or ""


@contextmanager
def _cut_off(connection: socket.socket, deadline: float) -> Iterator[None]:
    """Shut a connection down at the deadline; a socket's own timeout starts again with every byte."""
    # TLS takes the socket over; the duplicate stays.
    with connection.dup() as copy:

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


def _failed(reason: str, code: Code = "failed_to_download_image") -> MediaError:
    return MediaError(reason, code)


def _too_large(max_bytes: int) -> MediaError:
    return _failed(f"the file is larger than the limit of {max_bytes} bytes", "image_too_large")


def _short(url: str) -> str:
    return repr(url if len(url) <= 80 else f"{url[:77]}...")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left

"""Downloads images over HTTP on behalf of untrusted clients: from public addresses, with limits on size and time.

Connections go to the address that was checked, so DNS rebinding has no effect. Redirects are checked as well. Proxies
and credentials from the environment are not used.
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
# Addresses of NAT64, which embed an IPv4 address.
NAT64_NETWORK = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class FetchLimits:
    """Limits for one file; `timeout` is the total time in seconds, including redirects."""

    max_bytes: int = 32_000_000
    timeout: float = 20.0
    max_redirects: int = 3


class Fetcher:
    """Downloads from public addresses, and from `trusted_hosts` regardless of their address."""

    def __init__(self, limits: FetchLimits, trusted_hosts: Collection[str] = ()) -> None:
        self._limits = limits
        self._trusted_hosts = {host.lower() for host in trusted_hosts}

    def fetch(self, url: str) -> bytes:
        """Return the body of a GET request.

        Raises MediaError with the code `failed_to_download_image` or `image_too_large`.
        """
        deadline = time.monotonic() + self._limits.timeout
        try:
            for _ in range(self._limits.max_redirects + 1):
                parts = _split(url)
                with self._connect(parts, deadline) as connection, _shut_down_at(connection, deadline):
                    result = self._get(parts, connection)
                # The shutdown at the deadline can look like the end of the body.
                _remaining(deadline)
                if isinstance(result, bytes):
                    return result
                url = urljoin(url, result)
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
            if time.monotonic() >= deadline:
                raise _failed(
                    f"{_short(url)} could not be downloaded within {self._limits.timeout:g} seconds"
                ) from None
            raise _failed(f"{_short(url)} could not be downloaded: {type(error).__name__}: {error}") from None
        raise _failed(f"{_short(url)} exceeds the limit of {self._limits.max_redirects} redirects")

    def _connect(self, parts: SplitResult, deadline: float) -> socket.socket:
        """Connect to the first reachable address of a host. All addresses must be public, or the host trusted."""
        host, port = _host(parts), parts.port or PORTS[parts.scheme]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
        if host.lower() not in self._trusted_hosts and not all(map(is_public, addresses)):
            raise _failed(f"{host!r} has an address that is not public, and it is not a trusted host")
        failure = OSError("the host has no address")
        for address in addresses:
            try:
                return socket.create_connection((str(address), port), timeout=_remaining(deadline))
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
        # read1 does not detect a connection that was closed early.
        if length is not None and len(body) < length:
            raise OSError(f"the server sent {len(body)} of {length} bytes")
        return bytes(body)


def is_public(address: Address) -> bool:
    """Return whether an address is public; clients could use other addresses to reach internal services."""
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
def _shut_down_at(connection: socket.socket, deadline: float) -> Iterator[None]:
    """Shut a connection down at the deadline, because the timeout of a socket restarts with every byte."""
    # The TLS wrapper detaches the socket, but not its duplicate.
    with connection.dup() as copy:

        def shut_down() -> None:
            with suppress(OSError):
                copy.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(_remaining(deadline), shut_down)
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


def _remaining(deadline: float) -> float:
    """Return the seconds until the deadline. Raises TimeoutError."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds

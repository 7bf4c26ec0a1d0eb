"""Fetches files over HTTP for clients that are not trusted: from public addresses, within limits of size and time.

The address that was checked is the one that is connected to, so a name that resolves differently a moment later gains
nothing; every redirect is checked anew. Proxies and credentials of the environment are not used.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Collection
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
                connection, target = self._connect(_split(url), deadline)
                try:
                    headers = {"Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity", "User-Agent": "mlx-host"}
                    connection.request("GET", target, headers=headers)
                    response = connection.getresponse()
                    location = response.getheader("Location")
                    if response.status in REDIRECTS and location:
                        url = urljoin(url, location)
                        continue
                    return self._read(connection, response, deadline)
                finally:
                    connection.close()
        except TimeoutError:
            raise Unusable(f"{_shown(url)} could not be fetched within {self._limits.seconds:g} seconds") from None
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
            raise Unusable(f"{_shown(url)} could not be fetched: {type(error).__name__}: {error}") from None
        raise Unusable(f"{_shown(url)} is one redirect too many; {self._limits.redirects} are followed")

    def _connect(self, parts: SplitResult, deadline: float) -> tuple[http.client.HTTPConnection, str]:
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
        hidden = next((address for address in addresses if not is_public(address)), None)
        if hidden is not None and host.lower() not in self._trusted:
            raise Unusable(f"{host!r} has the address {hidden}, which is not public; such hosts are not fetched from")
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = _Https(str(addresses[0]), host, port)
        else:
            connection = http.client.HTTPConnection(str(addresses[0]), port)
        connection.timeout = _left(deadline)
        connection.connect()
        # http.client would name the address in place of the host.
        connection.host, connection.port = host, port
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        return connection, target.replace(" ", "%20")

    def _read(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, end: float) -> bytes:
        if response.status != http.client.OK:
            raise Unusable(f"the server answers {response.status} {response.reason}")
        most = self._limits.size
        declared = response.getheader("Content-Length", "")
        length = int(declared) if declared.isdecimal() else None
        if length is not None and length > most:
            raise Unusable(f"the file has {length} bytes, and {most} are taken")
        body = bytearray()
        # read1 gives what has arrived: the deadline holds for a server that sends a byte at a time.
        while chunk := response.read1(CHUNK):
            body += chunk
            if len(body) > most:
                raise Unusable(f"the file has more than {most} bytes")
            if connection.sock is not None:
                connection.sock.settimeout(_left(end))
            _left(end)
        # read1 takes a connection that is closed too early for the end.
        if length is not None and len(body) < length:
            raise Unusable(f"the server sent {len(body)} of {length} bytes")
        return bytes(body)


class _Https(http.client.HTTPSConnection):
    """Connects to an address that was checked, for the host whose certificate counts."""

    def __init__(self, address: str, host: str, port: int) -> None:
        super().__init__(address, port)
        self._server_name = host
        self._tls = ssl.create_default_context()

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


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


def _shown(url: str) -> str:
    return repr(url if len(url) <= 80 else f"{url[:77]}...")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left

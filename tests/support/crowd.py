"""Many clients at once, on bare asyncio: what hundreds of connections need and nothing more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests.support.client import CHAT
from tests.support.server import ServerProcess

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """A response as it came: status, headers by lower-case name, body with chunks put together."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(body: bytes, path: str = CHAT, kind: str = "application/json", method: str = "POST") -> bytes:
    """A request after which the connection is closed."""
    return (
        f"{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


@asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection; it is cut, not closed politely, at the end."""
    where = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask(server: ServerProcess, sent: bytes) -> Reply:
    """Send one request and read all that comes."""
    async with connected(server) as (reader, writer):
        writer.write(sent)
        return parse(await reader.read())


def parse(came: bytes) -> Reply:
    """Read one response."""
    head, _, rest = came.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        rest = body
    return Reply(int(first.split()[1]), headers, rest)


async def each(do: Callable[[T], Awaitable[None]], things: Iterable[T], at_once: int) -> None:
    """Do it for all things, so many at a time."""
    left = iter(things)

    async def worker() -> None:
        for thing in left:
            await do(thing)

    await asyncio.gather(*(worker() for _ in range(at_once)))

"""A minimal asyncio HTTP client for hundreds of concurrent connections."""

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
    """A response: status, headers by lower-case name, body with chunks joined."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(body: bytes, path: str = CHAT, kind: str = "application/json", method: str = "POST") -> bytes:
    """A request with `connection: close`."""
    return (
        f"{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


@asynccontextmanager
async def connect(server: ServerProcess) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is aborted on exit."""
    where = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def send_request(server: ServerProcess, sent: bytes) -> Reply:
    """Send one request and read the response."""
    async with connect(server) as (reader, writer):
        writer.write(sent)
        return parse(await reader.read())


def parse(received: bytes) -> Reply:
    """Parse one response."""
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        rest = body
    return Reply(int(first.split()[1]), headers, rest)


async def run_concurrently(do: Callable[[T], Awaitable[None]], items: Iterable[T], concurrency: int) -> None:
    """Call `do` for all items, `concurrency` at a time."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await do(item)

    await asyncio.gather(*(worker() for _ in range(concurrency)))

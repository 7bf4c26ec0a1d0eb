"""Server-sent events: how a stream goes out, how it ends on an error, and how a client's going away is seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse

from mlx_host.api import errors
from mlx_host.errors import RequestError

DONE = b"data: [DONE]\n\n"

T = TypeVar("T")


class ClientGone(RequestError):
    """The client went away before there was an answer; nobody reads this."""

    status = 499
    code = "client_gone"


def encode(event: Any) -> bytes:
    """Write one event."""
    return b"data: " + json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Wait for `work`, and give it up when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone("The client closed the connection.")
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait((task, gone))


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _to_the_end(pieces: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                yield piece
        except RequestError as error:
            # Bytes have flowed, so the status is spent; the error is the last thing the stream says.
            yield encode(errors.body(error))


def stream(pieces: AsyncGenerator[bytes, None], headers: dict[str, str]) -> StreamingResponse:
    """Send what `pieces` yields, each as soon as it is there; the generator is closed when the client goes away."""
    return StreamingResponse(
        _to_the_end(pieces),
        media_type="text/event-stream",
        # Proxies such as nginx would otherwise collect the stream before they pass it on.
        headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers},
    )

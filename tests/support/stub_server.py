"""A loopback server that sends exactly the bytes of a script."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

Script = Callable[[str, bytes], AsyncIterator[bytes]]


def chunk(content: str = "", **fields: Any) -> bytes:
    """One server-sent event of a chat completion."""
    delta = {"content": content} if content else {}
    body = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}], "usage": None} | fields
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def usage(completion_tokens: int, prompt_tokens: int = 7) -> bytes:
    counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return chunk(choices=[], usage=counts)


def response(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


def models(*names: str) -> bytes:
    return response(json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode())


# Without a Content-Length, the body ends with the connection.
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
DONE = b"data: [DONE]\n\n"


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """Respond to every request with the bytes that `script(path, body)` yields; yield the base URL."""
    address: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    connections: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        connections.add(connection)
        connection.add_done_callback(connections.discard)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [line.split(":")[1] for line in head.splitlines() if line.startswith("Content-Length:")]
        body = await reader.readexactly(int(lengths[0])) if lengths else b""
        try:
            async for piece in script(head.split()[1], body):
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()

    async def serve() -> None:
        stop = asyncio.Event()
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            address.set_result((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
            await stop.wait()
            for connection in connections:
                connection.cancel()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, stop, port = address.result()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()

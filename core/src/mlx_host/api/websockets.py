"""WebSocket endpoints: frames are read while a reply is sent, and each message of a reply is one text frame."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from mlx_host.api import json_io
from mlx_host.api.errors import INTERNAL_ERROR, InternalError
from mlx_host.api.responding import ClientDisconnectError, Encoder, Message, Messages
from mlx_host.api.service import Reply
from mlx_host.errors import RequestError

log = logging.getLogger(__name__)

EventT = TypeVar("EventT")
# Frames that may arrive while an earlier one is processed; more close the connection.
MAX_WAITING_FRAMES = 16
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
# The reason of the disconnect event by which mlx-host announces that it is shutting down.
SHUTDOWN = "mlx_host.shutdown"


class FrameReader:
    """Reads the text frames of an accepted WebSocket, also while a frame is processed.

    Use it as a context manager. Otherwise the disconnect of a client would be noticed only after its reply.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._frames: asyncio.Queue[str | None] = asyncio.Queue()
        self._gone = asyncio.Event()
        self.is_shutting_down = False

    async def __aenter__(self) -> FrameReader:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def next(self, timeout: float | None = None) -> str | None:
        """Return the next frame; None after the last one. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            return await self._frames.get()

    async def while_connected(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`; cancel it and raise ClientDisconnectError when the client disconnects.

        A server that shuts down lets it finish.
        """
        task = asyncio.create_task(work)
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientDisconnectError("The client closed the connection.")
            task.result()
        finally:
            for each in (task, gone):
                each.cancel()
            await asyncio.wait((task, gone))

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                self.is_shutting_down = message.get("reason") == SHUTDOWN
                break
            if self._frames.qsize() >= MAX_WAITING_FRAMES:
                await self._socket.close(POLICY_VIOLATION, f"At most {MAX_WAITING_FRAMES} frames may be waiting.")
                break
            text = message.get("text")
            # A binary frame has the text of a frame that is not JSON, so the endpoint rejects it.
            self._frames.put_nowait(text if text is not None else "")
        if not self.is_shutting_down:
            self._gone.set()
        self._frames.put_nowait(None)


async def send_reply(send: Callable[[str], Awaitable[None]], reply: Reply[EventT], encoder: Encoder[EventT]) -> None:
    """Send the messages of a reply, each as one text frame.

    A RequestError before the first message is raised. After it, the last messages are those of `encoder.fail`.
    """
    started = False

    async def send_all(messages: Messages) -> None:
        nonlocal started
        for message in messages:
            started = True
            data = message.data if isinstance(message, Message) else message
            await send(data if isinstance(data, str) else data.decode())

    try:
        async with reply:
            async for events in reply:
                await send_all(encoder.encode(events))
            await send_all(await encoder.finish())
    except WebSocketDisconnect:
        raise
    except Exception as error:
        if not started:
            raise
        if not isinstance(error, RequestError):
            log.exception("unexpected error while sending a reply")
            error = InternalError(INTERNAL_ERROR)
        await send_all(await encoder.fail(error) or ())


def frame_text(text: str) -> str:
    """Return text that UTF-8 can represent: an unpaired surrogate becomes a question mark."""
    return json_io.utf8(text).decode()

"""The listening socket, bound before models load, and a uvicorn server without signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from mlx_host._http.http_protocol import TimeoutHttpProtocol
from mlx_host._http.websocket_protocol import DrainingWebSocketProtocol
from mlx_host.errors import UsageError

BACKLOG = 2048
# Longer than clients keep idle connections: a server that closes one first can lose a request that is on its way.
KEEP_ALIVE_TIMEOUT = 75
MAX_FRAME_BYTES = 16_000_000
# Seconds that the handlers of aborted connections have to release their resources.
ABORT_TIMEOUT = 1.0


def bind(host: str, port: int, flag: str = "--port") -> socket.socket:
    """Listen on an address; UsageError if it is in use or not an address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # At once: two servers can bind the same port as long as neither listens.
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another {flag}."
        ) from error
    return listening


def url(listening: socket.socket) -> str:
    """Return the server's URL."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: set `should_exit` to stop, and `force_exit` not to wait for connections."""

    def __init__(self, app: ASGIApp, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        config = uvicorn.Config(
            app,
            http=TimeoutHttpProtocol,
            ws=DrainingWebSocketProtocol,
            ws_max_size=max_frame_bytes,
            # The size of a compressed frame would be known only after decompression.
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            lifespan="off",
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
            server_header=False,
        )
        super().__init__(config)

    @property
    def active_requests(self) -> int:
        """The number of requests whose response is not complete."""
        return len(self.server_state.tasks)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down as uvicorn does, then abort the remaining connections: ending the loop would log tracebacks."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=ABORT_TIMEOUT)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

"""A socket that is bound before models load, and uvicorn as a server that leaves signals to us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from mlx_host._http.http_protocol import Protocol
from mlx_host.errors import UsageError

BACKLOG = 2048
# Longer than clients keep their idle connections, so that they are the ones to close them.
KEEP_ALIVE_SECONDS = 75
# How long requests that are cut off have to let go of what they hold.
CUT_OFF_SECONDS = 1.0


def bind(host: str, port: int, flag: str = "--port") -> socket.socket:
    """Bind the address to listen on; UsageError if it is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # At once, for two servers could bind the same port as long as neither listens.
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another {flag}."
        ) from error
    return listening


def url(listening: socket.socket) -> str:
    """Write where the server is."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn without its signal handlers; set `should_exit` to end it, `force_exit` to leave connections behind."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            server_header=False,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does, then cut off what is left, which the end of the loop would do with a traceback."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=CUT_OFF_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

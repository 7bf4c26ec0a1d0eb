"""All contact with uvicorn: a socket that is bound before models load, and a server that leaves signals to us."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from mlx_host.errors import UsageError


def bind(host: str, port: int) -> socket.socket:
    """Bind the address to listen on; UsageError if it is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port."
        ) from error
    return listening


def url(listening: socket.socket) -> str:
    """Write where the server is."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn without its signal handlers; set `should_exit` to end it."""

    def __init__(self, app: ASGIApp, shutdown_timeout: int | None = None) -> None:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=shutdown_timeout
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

"""An HTTP server on loopback that redirects, declares wrong lengths, sends slowly or stalls, depending on the path."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BODY = b"image" * 100


class Handler(BaseHTTPRequestHandler):
    """Responds depending on the path, and records requests in the server's `seen`."""

    server: MisbehavingServer

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Host")))
        path, _, query = self.path.partition("?")
        match path:
            case "/ok":
                self._send(200, BODY)
            case "/to":
                self._send(302, b"", Location=query)
            case "/again":
                self._send(302, b"", Location="/again")
            case "/claims":
                self._send(200, b"x", **{"Content-Length": "999999999"})
            case "/endless":
                self.send_response(200)
                self.end_headers()
                while True:
                    try:
                        self.wfile.write(b"x" * 4096)
                    except OSError:
                        return
            case "/slow":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"x")
                self.server.over.wait(30)
            case "/drips":
                self.send_response(200)
                self.end_headers()
                self._drip()
            case "/drips-before":
                self._drip()
            case _:
                self._send(404, b"no")

    def _drip(self) -> None:
        """Send a byte every 20 ms, for longer than any test waits."""
        with suppress(OSError):
            for _ in range(100):
                self.wfile.write(b"H")
                if self.server.over.wait(0.02):
                    return

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


class MisbehavingServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str | None]] = []
        self.over = threading.Event()
        self.root = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running_misbehaving_server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()

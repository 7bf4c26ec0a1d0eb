"""A Hugging Face hub on loopback: the endpoints that its client uses to download a repository."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A running hub; `requests` are the received (method, path, user agent).

    `repositories` maps ids to files; an id without files is gated. If `truncated`, files end before their length.
    """

    url: str
    repositories: Mapping[str, Mapping[str, bytes]]
    truncated: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)


@contextmanager
def running_hub(repositories: Mapping[str, Mapping[str, bytes]], *, truncated: bool = False) -> Iterator[Hub]:
    """Serve these repositories on a free port."""
    server = _Server(("127.0.0.1", 0), _Handler)
    hub = server.hub = Hub(f"http://127.0.0.1:{server.server_port}", repositories, truncated)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    hub: Hub


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = self.server.hub
        path = urlsplit(self.path).path
        hub.requests.append((self.command, path, self.headers["user-agent"]))
        for name, files in hub.repositories.items():
            if path.startswith((f"/api/models/{name}", f"/{name}/resolve/")):
                if not files:
                    self._send(403, b"", {"X-Error-Code": "GatedRepo"})
                elif path.startswith("/api/"):
                    self._send_json(_api(name, files, path))
                else:
                    self._send_file(files[path.rpartition(f"/resolve/{COMMIT}/")[2]])
                return
        self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send_file(self, content: bytes) -> None:
        self._send(200, content, {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT}, body=self._body(content))

    def _body(self, content: bytes) -> bytes:
        self.close_connection = self.server.hub.truncated
        return content[: len(content) // 2] if self.server.hub.truncated else content

    def _send(self, status: int, content: bytes, headers: Mapping[str, str], body: bytes | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content if body is None else body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _api(name: str, files: Mapping[str, bytes], path: str) -> Any:
    if "/tree/" in path:
        return [
            {"type": "file", "oid": _digest(content), "size": len(content), "path": file}
            for file, content in files.items()
        ]
    return {"id": name, "modelId": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()

"""A real server for tests: `mlx-host run` as a subprocess, and HTTP requests to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from urllib.parse import urlsplit

import psutil

from mlx_host.testing.http import HttpResponse

START_TIMEOUT = 300.0
STOP_TIMEOUT = 30.0
POLL_INTERVAL = 0.01


def environment() -> dict[str, str]:
    """Return the environment of this process without mlx-host's settings."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MLX_HOST_")}


class RunningServer:
    """A server started with `mlx-host run ARGUMENTS` on a free port; it is ready when the constructor returns."""

    def __init__(self, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "mlx_host", "run", "--port", "0", *arguments]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._log: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            self._host, self._port = self._address()
        except BaseException:
            self.stop()
            raise

    @property
    def log(self) -> str:
        """The server's log so far."""
        with self._changed:
            return "\n".join(self._log)

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._append(line.rstrip("\n"))
        self._append(None)

    def _append(self, line: str | None) -> None:
        with self._changed:
            if line is None:
                self._ended = True
            else:
                self._log.append(line)
            self._changed.notify_all()

    def _address(self) -> tuple[str, int]:
        def ready() -> str | None:
            return next((line for line in self._log if "ready: " in line), None)

        with self._changed:
            self._changed.wait_for(lambda: self._ended or ready(), START_TIMEOUT)
            line = ready()
        if line is None:
            raise AssertionError(f"the server is not ready; its log:\n{self.log}")
        url = urlsplit(line.rpartition(" at ")[2])
        assert url.hostname is not None
        assert url.port is not None
        return url.hostname, url.port

    def connect(self, timeout: float) -> HTTPConnection:
        """Return a new connection, which the caller must close."""
        return HTTPConnection(self._host, self._port, timeout=timeout)

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}, timeout: float = 60.0
    ) -> HttpResponse:
        """Send a request on a new connection and read the response to its end."""
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body, dict(headers))
            return read(connection.getresponse())
        finally:
            connection.close()

    def running(self) -> int:
        """Return the number of running requests of all models."""
        active: int = self.request("GET", "/v1/queue/stats").json()["queue_stats"]["active_requests"]
        return active

    @contextmanager
    def suspended_models(self) -> Iterator[None]:
        """Suspend the models' processes, so that running requests make no progress."""
        children = psutil.Process(self._process.pid).children()
        models = [child for child in children if any("mlx_host._engine" in word for word in child.cmdline())]
        try:
            for model in models:
                model.suspend()
            for model in models:
                wait_until(lambda model=model: model.status() == psutil.STATUS_STOPPED, STOP_TIMEOUT)  # type: ignore[misc]
            yield
        finally:
            for model in models:
                model.resume()

    def stop(self) -> None:
        """Stop the server; kill it if that takes longer than STOP_TIMEOUT seconds."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_TIMEOUT)
        assert self._process.stderr is not None
        self._process.stderr.close()


def read(response: HTTPResponse) -> HttpResponse:
    """Read a response until its end, or until the server aborts the connection."""
    try:
        body, complete = response.read(), True
    except IncompleteRead as error:
        body, complete = error.partial, False
    headers = {name.lower(): value for name, value in response.getheaders()}
    return HttpResponse(response.status, headers, body, complete)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Wait until a condition holds; return False if it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True

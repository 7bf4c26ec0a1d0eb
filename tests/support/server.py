"""Runs the real server as a command on loopback while a test needs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.command import import_path

OPENBLAS = Path("/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0")
# OpenBLAS makes MLX on Linux CPUs fast, see the README. One thread: with parallel tests, threads that wait for each
# other are slower.
BLAS = {"OPENBLAS_NUM_THREADS": "1", **({"LD_PRELOAD": str(OPENBLAS)} if OPENBLAS.exists() else {})}
FAST_BLAS = [word for key, value in BLAS.items() for word in ("--env", f"{key}={value}")]


class ServerProcess:
    """A running `mlx-host run`; `url` is its root, `lines` are the lines logged so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = ""
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for_line(self, part: str, timeout: float = 120.0) -> str:
        """Wait until a line of the log contains `part`; fail with the whole log at its end or after the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or any(part in line for line in self.lines), timeout)
            for line in self.lines:
                if part in line:
                    return line
        raise AssertionError(f"no line with {part!r} in:\n" + "\n".join(self.lines))

    def find_url(self) -> None:
        """Set `url` while the models are still loading."""
        self.url = self.wait_for_line("listening at ").rpartition(" at ")[2]

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout)
        self._thread.join(timeout)
        return code


@contextmanager
def running_server(
    *args: str,
    env: Mapping[str, str] | None = None,
    plugins: Sequence[Path] = (),
    wait_ready: bool = True,
    python: str = sys.executable,
) -> Iterator[ServerProcess]:
    """Run `mlx-host run ARGS` on a free port inside the context; with `wait_ready`, wait until it is ready.

    `plugins` are added to the import path.
    """
    command = [python, "-m", "mlx_host", "run", "--port", "0", *args]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **import_path(plugins, python), **(env or {})},
    )
    server = ServerProcess(process)
    try:
        if wait_ready:
            server.url = server.wait_for_line("ready: ").rpartition(" at ")[2].removesuffix("/v1")
        yield server
    finally:
        try:
            server.stop()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            assert process.stderr is not None
            process.stderr.close()

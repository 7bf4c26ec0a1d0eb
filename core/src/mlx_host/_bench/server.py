"""Runs a server of our own for the time of a measurement."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import IO

from mlx_host._bench.http_client import Target, exchange
from mlx_host.errors import UsageError

_POLL_SECONDS = 0.1
_STOP_SECONDS = 15.0


def run_command(model: str, options: Sequence[str]) -> list[str]:
    """The command line of `mlx-host run`, in this interpreter, but for its port."""
    named = ["--model", model] if model else []
    return [sys.executable, "-m", "mlx_host", "run", "--no-log-file", *named, *options]


@asynccontextmanager
async def running(command: Sequence[str]) -> AsyncIterator[Target]:
    """Run `command` with `--port` on a free loopback port; give its address once /health says 200, then stop it."""
    port = _free_port()
    # A file, not a pipe: nobody has to empty it while the measurement has the processor.
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *command, "--port", str(port), stdin=DEVNULL, stdout=log, stderr=STDOUT
        )
        try:
            await _wait_until_healthy(process, port, log)
            yield Target("127.0.0.1", port, "/v1")
        finally:
            await _stop(process)


async def _wait_until_healthy(process: Process, port: int, log: IO[bytes]) -> None:
    root = Target("127.0.0.1", port, "")
    request = root.request("GET", "/health")
    while (await exchange(root, request, clock=time.perf_counter, timeout=5)).status != 200:
        if process.returncode is not None:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()
            raise UsageError(
                f"The server stopped before it was ready (exit code {process.returncode}). It said:\n{said}"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""Starts a server for a measurement, and stops it."""

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

from mlx_host._bench.http_client import Target, send_request
from mlx_host.errors import UsageError

_POLL_SECONDS = 0.1
_STOP_SECONDS = 15.0


def run_command(model: str, options: Sequence[str]) -> list[str]:
    """Return the command line of `mlx-host run` in this interpreter, without the port."""
    model_option = ["--model", model] if model else []
    return [sys.executable, "-m", "mlx_host", "run", *model_option, *options]


@asynccontextmanager
async def run_server(command: Sequence[str]) -> AsyncIterator[Target]:
    """Run `command` with `--port` and a free port, yield its address once it is healthy, and stop it at the end.

    UsageError, with the output, if the process exits before /health returns 200.
    """
    port = _free_port()
    # A file instead of a pipe, which would have to be read during the measurement.
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
    while (await send_request(root, request, clock=time.perf_counter, timeout=5)).status != 200:
        if process.returncode is not None:
            log.seek(0)
            output = log.read().decode(errors="replace").strip()
            raise UsageError(
                f"The server exited before it was ready (exit code {process.returncode}). Its output:\n{output}"
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

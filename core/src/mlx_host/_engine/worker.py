"""Workers, in which models run: child processes or, in tests, threads of this process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Protocol

from mlx_host._engine import loop
from mlx_host._engine.ipc import LoadFailed, Shutdown, WorkerConfig, send
from mlx_host.backend import Model
from mlx_host.errors import MlxHostError

# huggingface_hub would send telemetry, and transformers would warn that PyTorch is missing, which MLX does not need.
ENVIRONMENT = {"HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}


class Worker(Protocol):
    """Runs a model. `connection` is the host's end of the pipe; `pid` is None if it has no process."""

    connection: Connection
    pid: int | None

    def kill(self) -> None:
        """Kill the worker."""

    def wait(self) -> str:
        """Wait until the worker has exited; return the reason, for error messages."""

    def request_stack_dump(self) -> None:
        """Make the worker write the stack traces of its threads, to be read with `read_stack_traces`."""

    def read_stack_traces(self) -> str:
        """Return the stack traces written since the last call, on request or on a crash."""

    def close(self) -> None:
        """Release the resources, after the worker has exited and no thread uses the connection."""


class ProcessWorker:
    """Runs the model in a child process; `env` is added to its environment."""

    def __init__(self, config: WorkerConfig, env: Mapping[str, str]) -> None:
        self._stack_file = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        self._read_bytes = 0
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours.detach())
        with theirs:
            fds = theirs.fileno(), self._stack_file.fileno()
            # On Linux the process is killed when the thread that calls this ends: call it on the main thread.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlx_host._engine.worker_main", *map(str, fds)],
                pass_fds=fds,
                env={**ENVIRONMENT, **os.environ, **env},
                stdin=subprocess.DEVNULL,
                # Ctrl-C in the terminal must reach only the host, which shuts the workers down.
                start_new_session=True,
            )
            # Before our copy of the child's end is closed: sending cannot fail then, even if the child has exited.
            send(self.connection, config)
        self.pid: int | None = self._process.pid

    def kill(self) -> None:
        if self._process.poll() is None:
            self._kill_group()

    def wait(self) -> str:
        code = self._process.wait()
        self._kill_group()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _kill_group(self) -> None:
        # The worker's session is a process group, so its child processes are killed, too.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def request_stack_dump(self) -> None:
        self._process.send_signal(signal.SIGUSR1)

    def read_stack_traces(self) -> str:
        size = os.fstat(self._stack_file.fileno()).st_size
        written = os.pread(self._stack_file.fileno(), size - self._read_bytes, self._read_bytes)
        self._read_bytes += len(written)
        return written.decode(errors="replace")

    def close(self) -> None:
        self.connection.close()
        self._stack_file.close()


class ThreadWorker:
    """Runs the same loop on a thread of this process, which cannot be killed, only asked to exit.

    `make` loads the model. If it returns None, the worker exits at once, like a process that crashes while loading.
    """

    pid: int | None = None

    def __init__(self, make: Callable[[], Model | None]) -> None:
        # Unlike closing a socket, shutting it down wakes the thread that reads from it.
        self._ours, self._theirs = socket.socketpair()
        self.connection = Connection(os.dup(self._ours.fileno()))
        self._make = make
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        inbox: loop.Inbox = SimpleQueue()

        def listen() -> None:
            try:
                while True:
                    inbox.put(connection.recv())
            except (EOFError, OSError):
                inbox.put(Shutdown())

        try:
            with Connection(os.dup(self._theirs.fileno())) as connection:
                try:
                    model = self._make()
                except MlxHostError as error:
                    with contextlib.suppress(OSError):
                        send(connection, LoadFailed(error))
                    return
                if model is None:
                    return
                try:
                    send(connection, loop.capabilities(model))
                except OSError:  # Killed while it loaded.
                    model.close()
                    return
                listener = threading.Thread(target=listen, name="listen", daemon=True)
                listener.start()
                try:
                    loop.run(model, inbox, lambda message: send(connection, message))
                except OSError:
                    model.close()
                finally:
                    self._theirs.shutdown(socket.SHUT_RDWR)
                    listener.join()
        finally:
            with contextlib.suppress(OSError):
                self._theirs.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        with contextlib.suppress(OSError):  # The worker has exited, and the sockets are closed.
            self._ours.shutdown(socket.SHUT_RDWR)

    def wait(self) -> str:
        self._thread.join()
        return "exited"

    def request_stack_dump(self) -> None:
        """Do nothing: not needed in tests."""

    def read_stack_traces(self) -> str:
        return ""

    def close(self) -> None:
        self.connection.close()
        self._ours.close()
        self._theirs.close()

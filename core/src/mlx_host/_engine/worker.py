"""Where a model runs: in a process of its own, or, for tests, on a thread of this one."""

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
from mlx_host._engine.ipc import Launch, Shutdown, send
from mlx_host.backend import Model

# The hub's client would say which libraries and tools run here, and fetch a list of tools to look for; transformers
# would warn that there is no PyTorch, which MLX does without.
QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}


class Worker(Protocol):
    """A running model's body: `connection` is the host's end of the pipe to it, `pid` its process, if it has one."""

    connection: Connection
    pid: int | None

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> str:
        """Wait until it has ended; return how, as words for a message."""

    def interrupt(self) -> None:
        """Have it write the stacks of its threads."""

    def traces(self) -> str:
        """Return the stacks that it has written since the last call, on a crash or an interrupt."""

    def close(self) -> None:
        """Let go of what belongs to it, once it has ended and nobody reads or writes any more."""


class ProcessWorker:
    """The model in a child process, with an environment of its own."""

    def __init__(self, launch: Launch, env: Mapping[str, str]) -> None:
        self._traces = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process
        self._traces_read = 0
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours.detach())
        with theirs:
            fds = theirs.fileno(), self._traces.fileno()
            # On Linux it ends with the thread that makes this call, which is to be the host's own.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlx_host._engine.worker_main", *map(str, fds)],
                pass_fds=fds,
                env={**QUIET, **os.environ, **env},
                stdin=subprocess.DEVNULL,
                # The terminal's Ctrl-C is for the host, which ends its models in order.
                start_new_session=True,
            )
            # While this end of theirs is open, sending cannot fail, whatever becomes of the child.
            send(self.connection, launch)
        self.pid: int | None = self._process.pid

    def kill(self) -> None:
        if self._process.poll() is None:
            self._kill_group()

    def wait(self) -> str:
        code = self._process.wait()
        self._kill_group()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _kill_group(self) -> None:
        # Its session is a group of its own: what it has started goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGUSR1)

    def traces(self) -> str:
        size = os.fstat(self._traces.fileno()).st_size
        written = os.pread(self._traces.fileno(), size - self._traces_read, self._traces_read)
        self._traces_read += len(written)
        return written.decode(errors="replace")

    def close(self) -> None:
        self.connection.close()
        self._traces.close()


class ThreadWorker:
    """The same loop on a thread; it cannot be killed, only asked to leave."""

    pid: int | None = None

    def __init__(self, make: Callable[[], Model]) -> None:
        # Closing a socket does not wake the thread that reads from it, shutting it down does.
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

        with Connection(os.dup(self._theirs.fileno())) as connection:
            model = self._make()
            send(connection, loop.info(model))
            listener = threading.Thread(target=listen, name="listen", daemon=True)
            listener.start()
            try:
                loop.run(model, inbox, lambda message: send(connection, message))
            except OSError:
                model.close()
            finally:
                self._theirs.shutdown(socket.SHUT_RDWR)
                listener.join()

    def kill(self) -> None:
        self._ours.shutdown(socket.SHUT_RDWR)

    def wait(self) -> str:
        self._thread.join()
        return "ended"

    def interrupt(self) -> None:
        """There is no way to make a thread say where it is from outside, nor a need in a test."""

    def traces(self) -> str:
        return ""

    def close(self) -> None:
        self.connection.close()
        self._ours.close()
        self._theirs.close()

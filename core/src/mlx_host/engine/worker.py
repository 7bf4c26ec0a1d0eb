"""Where a model runs: in a process of its own, or, for tests, on a thread of this one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Protocol

from mlx_host.backend import Model
from mlx_host.engine import loop
from mlx_host.engine.messages import Launch, Shutdown


class Worker(Protocol):
    """A running model's body; `connection` is the host's end of the pipe to it."""

    connection: Connection

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> str:
        """Wait until it has ended; return how, as words for a message."""


class ProcessWorker:
    """The model in a child process, with an environment of its own."""

    def __init__(self, launch: Launch, env: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlx_host.engine.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                # The terminal's Ctrl-C is for the host, which ends its models in order.
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        self.connection.send(launch)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> str:
        code = self._process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class ThreadWorker:
    """The same loop on a thread; it cannot be killed, only asked to leave."""

    def __init__(self, make: Callable[[], Model]) -> None:
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours.detach())
        self._theirs = Connection(theirs.detach())
        self._make = make
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        inbox: loop.Inbox = SimpleQueue()

        def listen() -> None:
            try:
                while True:
                    inbox.put(self._theirs.recv())
            except (EOFError, OSError):
                inbox.put(Shutdown())

        model = self._make()
        self._theirs.send(loop.info(model))
        listener = threading.Thread(target=listen, name="listen", daemon=True)
        listener.start()
        try:
            loop.run(model, inbox, self._theirs.send)
        except OSError:
            model.close()
        finally:
            self._theirs.close()

    def kill(self) -> None:
        self.connection.close()

    def wait(self) -> str:
        self._thread.join()
        return "ended"

"""A model's process: `python -m mlx_host._engine.worker_main FD TRACES`, started by the host.

The host holds the other end of FD and reads the file TRACES, which gets the stacks of all threads when the process
crashes or is sent SIGUSR1.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from pydantic import ValidationError

from mlx_host._engine import loop
from mlx_host._engine.ipc import Launch, LoadFailed, Loading, Logged, send
from mlx_host._plugins import sources
from mlx_host._plugins.manager import Plugins
from mlx_host.backend import Load, Model
from mlx_host.errors import LoadError, MlxHostError

# Of <linux/prctl.h>.
PR_SET_PDEATHSIG = 1


class Channel:
    """The child's end of the pipe; any thread may send. When the host is gone, so is this process, at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: Any) -> None:
        try:
            with self._sending:
                send(self._connection, message)
        except OSError:
            os._exit(0)

    def receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            os._exit(0)


class PipeHandler(logging.Handler):
    """Hands log records to the host, which knows where they go."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        # A record's arguments may not pickle, its text does.
        self._channel.send(Logged(record.name, record.levelno, self.format(record), record.created))


def load(launch: Launch, channel: Channel) -> Model:
    """Load the model; LoadError (or another MlxHostError) says why not."""

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        channel.send(Loading(stage, done, total, note))

    plugins = Plugins({"sources": sources})
    backend = plugins.backend(launch.backend)
    try:
        options = backend.options.model_validate(launch.options)
    except ValidationError as error:
        raise LoadError(f"backend {launch.backend!r} does not take its options: {error}") from error
    path = plugins.source(launch.model).fetch(progress) if launch.model is not None else None
    return backend.load(Load(launch.model, path, options, progress))


def end_with_host() -> None:
    """Have the kernel end this process with the host, where it can.

    The end of the pipe says so everywhere, but no thread hears it while one hangs and holds the interpreter's lock.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(fd: int, traces: int) -> None:
    """Load, report, serve."""
    end_with_host()
    faulthandler.enable(traces)
    faulthandler.register(signal.SIGUSR1, traces)
    channel = Channel(Connection(fd))
    launch: Launch = channel.receive()
    logging.basicConfig(
        level=launch.log_level.upper(), format="%(message)s", handlers=[PipeHandler(channel)], force=True
    )
    inbox: loop.Inbox = SimpleQueue()

    def listen() -> None:
        while True:
            inbox.put(channel.receive())

    threading.Thread(target=listen, name="listen", daemon=True).start()
    try:
        model = load(launch, channel)
    except MlxHostError as error:
        channel.send(LoadFailed(error))
        return
    except Exception as error:
        logging.getLogger(__name__).debug("loading failed", exc_info=True)
        channel.send(LoadFailed(LoadError(f"{launch.model or launch.backend!r}: {type(error).__name__}: {error}")))
        return
    channel.send(loop.info(model))
    loop.run(model, inbox, channel.send)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

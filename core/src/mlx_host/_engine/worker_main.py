"""A model's process: `python -m mlx_host._engine.worker_main FD TRACES`, started by the host.

FD is the worker's end of the socket to the host. TRACES is a file for the host to read, to which the stack traces of
all threads are written when the process crashes or receives SIGUSR1. Both are file descriptors.
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
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pydantic import ValidationError

from mlx_host._engine import loop
from mlx_host._engine.ipc import LoadFailed, Loading, LogMessage, WorkerConfig, send
from mlx_host._engine.mlx_install import unusable_mlx
from mlx_host._plugins import sources
from mlx_host._plugins.acceptance import check_accepted
from mlx_host._plugins.manager import Plugins
from mlx_host.backend import LoadContext, Model
from mlx_host.errors import LoadError, MlxHostError, describe_error

log = logging.getLogger(__name__)

# From <linux/prctl.h>.
PR_SET_PDEATHSIG = 1


class Channel:
    """The worker's end of the pipe, for use by any thread. The process exits when the host has exited."""

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
    """Sends log records to the host, which logs them."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # Formatted, because a record's arguments may not be picklable.
            message = LogMessage(record.name, record.levelno, self.format(record), record.created)
        except Exception:  # noqa: BLE001  an invalid log call in a library must not fail a request
            self.handleError(record)
        else:
            self._channel.send(message)


def load(config: WorkerConfig, channel: Channel) -> Model:
    """Load the model; raises LoadError or another MlxHostError."""

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        channel.send(Loading(stage, done, total, note))

    plugins = Plugins({"sources": sources})
    backend = plugins.backend(config.backend)
    try:
        options = backend.options.model_validate(config.options)
    except ValidationError as error:
        raise LoadError(f"Invalid options of backend {config.backend!r}: {error}") from error
    path = plugins.source(config.model).fetch(progress) if config.model is not None else None
    try:
        if config.model is not None and path is not None:
            check_accepted(backend, plugins.backends.found, config.model, path)
        return backend.load(LoadContext(config.model, path, options, progress))
    except Exception as error:
        if not isinstance(error, MlxHostError):
            log.debug("loading failed", exc_info=True)
        own = str(error) if isinstance(error, MlxHostError) else f"{describe_error(error)}."
        raise LoadError(_without_folders(unusable_mlx(error) or own, path)) from error


def _without_folders(message: str, model: Path | None) -> str:
    """Shorten the paths in a message: clients receive it, so it must not contain the server's folders."""
    if model is not None:
        message = message.replace(f"{model}{os.sep}", "").replace(str(model), model.name)
    return message.replace(f"{Path.home()}{os.sep}", f"~{os.sep}")


def exit_with_host() -> None:
    """Make the kernel kill this process when the host exits; only Linux supports this.

    On other platforms the closed pipe ends the process, unless a thread hangs while it holds the GIL.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(fd: int, traces: int) -> None:
    """Load the model, report the result and run it."""
    exit_with_host()
    faulthandler.enable(traces)
    faulthandler.register(signal.SIGUSR1, traces)
    channel = Channel(Connection(fd))
    config: WorkerConfig = channel.receive()
    logging.basicConfig(
        level=config.log_level.upper(), format="%(message)s", handlers=[PipeHandler(channel)], force=True
    )
    inbox: loop.Inbox = SimpleQueue()

    def listen() -> None:
        while True:
            inbox.put(channel.receive())

    threading.Thread(target=listen, name="listen", daemon=True).start()
    try:
        model = load(config, channel)
    except MlxHostError as error:
        channel.send(LoadFailed(error))
        return
    except Exception as error:
        log.debug("loading failed", exc_info=True)
        channel.send(LoadFailed(LoadError(unusable_mlx(error) or f"{describe_error(error)}.")))
        return
    channel.send(loop.capabilities(model))
    loop.run(model, inbox, channel.send, config.backend)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

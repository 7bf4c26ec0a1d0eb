"""A model's process: `python -m mlx_host.engine.child FD`, started by the host, which holds the other end of FD."""

from __future__ import annotations

import copy
import logging
import os
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from pydantic import ValidationError

from mlx_host import sources
from mlx_host.backend import Load, Model
from mlx_host.engine import loop
from mlx_host.engine.messages import Launch, LoadFailed, Loading, Logged
from mlx_host.errors import LoadError, MlxHostError
from mlx_host.plugins import Plugins


class Channel:
    """The child's end of the pipe; any thread may send."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: Any) -> None:
        with self._sending:
            self._connection.send(message)


class PipeHandler(logging.Handler):
    """Hands log records to the host, which knows where they go."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        # As logging.handlers.QueueHandler does: arguments and exceptions may not pickle, their text does.
        record = copy.copy(record)
        record.message = record.msg = self.format(record)
        record.args = record.exc_info = record.exc_text = record.stack_info = None
        self._channel.send(Logged(record))


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


def main(fd: int) -> None:
    """Load, report, serve; when the host goes away, so does this process, at once."""
    connection = Connection(fd)
    channel = Channel(connection)
    launch: Launch = connection.recv()
    logging.basicConfig(level=launch.log_level.upper(), handlers=[PipeHandler(channel)], force=True)
    inbox: loop.Inbox = SimpleQueue()

    def listen() -> None:
        try:
            while True:
                inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)

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
    main(int(sys.argv[1]))

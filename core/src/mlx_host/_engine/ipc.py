"""The messages between the host and a model's worker process; all of them can be pickled."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mlx_host.errors import MlxHostError, RequestError
from mlx_host.events import Event
from mlx_host.requests import Request


@dataclass(frozen=True)
class WorkerConfig:
    """What a model's process needs to load the model."""

    backend: str
    model: str | None
    options: Mapping[str, Any]
    log_level: str


@dataclass(frozen=True)
class Submit:
    """To the worker: start a request.

    The request is pickled separately, so that the worker can report by id that it cannot be unpickled.
    """

    id: str
    pickled: bytes

    @classmethod
    def of(cls, request: Request) -> Submit:
        """Pickle a request; pickling may raise any exception."""
        return cls(request.id, pickle.dumps(request, pickle.HIGHEST_PROTOCOL))

    def request(self) -> Request:
        """Unpickle the request; unpickling may raise any exception."""
        request: Request = pickle.loads(self.pickled)
        return request


@dataclass(frozen=True)
class Cancel:
    """To the worker: cancel a request by closing its generator, and reply with CancelAck."""

    id: str


@dataclass(frozen=True)
class Shutdown:
    """To the worker: close the model and exit."""


@dataclass(frozen=True)
class Loading:
    """To the host: the progress of loading."""

    stage: str
    done: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class LoadFailed:
    """To the host, instead of Capabilities: the model could not be loaded."""

    error: MlxHostError


@dataclass(frozen=True)
class StepOutput:
    """To the host: the events of one step by request id, or a heartbeat if empty; a RequestError ends its request."""

    events: list[tuple[str, Event | RequestError]]


@dataclass(frozen=True)
class CancelAck:
    """To the host: the generator of a cancelled request is closed. Until then the worker counts as busy."""

    id: str


@dataclass(frozen=True)
class LogMessage:
    """To the host: a formatted log record; `created` is in seconds since the epoch."""

    logger: str
    level: int
    text: str
    created: float


def send(connection: Connection, message: Any) -> None:
    """Send a message, to be received with `Connection.recv`."""
    # Faster than Connection.send, whose pickler also looks for file handles.
    connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

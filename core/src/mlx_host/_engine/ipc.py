"""The messages between the host and a model's process; all of them pickle."""

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

    The request is pickled separately, so that one that cannot be unpickled still has an id and fails alone.
    """

    id: str
    pickled: bytes

    @classmethod
    def of(cls, request: Request) -> Submit:
        """Pickle a request; raises what pickling raises."""
        return cls(request.id, pickle.dumps(request, pickle.HIGHEST_PROTOCOL))

    def request(self) -> Request:
        """Unpickle the request; raises what unpickling raises."""
        request: Request = pickle.loads(self.pickled)
        return request


@dataclass(frozen=True)
class Cancel:
    """To the worker: close a request's generator and reply with CancelAck; its output is no longer wanted."""

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
    """To the host, in place of Capabilities: the model cannot be loaded."""

    error: MlxHostError


@dataclass(frozen=True)
class StepOutput:
    """To the host: the events of one step by request id, or a heartbeat if empty; a RequestError ends its request."""

    events: list[tuple[str, Event | RequestError]]


@dataclass(frozen=True)
class CancelAck:
    """To the host: a cancelled request's generator is closed. Until then the worker counts as busy."""

    id: str


@dataclass(frozen=True)
class LogMessage:
    """To the host: a formatted log record; `created` is in seconds since the epoch."""

    logger: str
    level: int
    text: str
    created: float


def send(connection: Connection, message: Any) -> None:
    """Send a message; the other end's `recv` receives it."""
    # Connection.send would look up every object in a table of reducers for handles, of which there are none here.
    connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

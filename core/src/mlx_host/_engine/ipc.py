"""What goes over the pipe between the host and a model's process; everything pickles."""

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
class Launch:
    """What a model's process needs to know to load it."""

    backend: str
    model: str | None
    options: Mapping[str, Any]
    log_level: str


@dataclass(frozen=True)
class Submit:
    """Down: begin this request."""

    request: Request


@dataclass(frozen=True)
class Cancel:
    """Down: close this request's generator and answer Closed; nothing more of it is wanted."""

    id: str


@dataclass(frozen=True)
class Shutdown:
    """Down: close the model and leave."""


@dataclass(frozen=True)
class Loading:
    """Up: where loading is."""

    stage: str
    done: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class LoadFailed:
    """Up, instead of Capabilities: the model cannot be loaded."""

    error: MlxHostError


@dataclass(frozen=True)
class Round:
    """Up: what the open requests said in one round, or a mere sign of life; a RequestError is a request's last word."""

    events: list[tuple[str, Event | RequestError]]


@dataclass(frozen=True)
class Closed:
    """Up: a cancelled request's generator is closed; while it is awaited, the model owes a sign of life."""

    id: str


@dataclass(frozen=True)
class Logged:
    """Up: a log record of the model's process, its text already made; the time is in seconds since the epoch."""

    logger: str
    level: int
    text: str
    created: float


def send(connection: Connection, message: Any) -> None:
    """Send a message; the other end's `recv` reads it."""
    # Connection.send would look every object up in a table of reducers for handles, of which there are none here.
    connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

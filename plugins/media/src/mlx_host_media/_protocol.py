"""Messages between the pool and its decoder processes: a JSON header and a binary body.

Messages are not pickled, because a malicious file may have taken control of the decoder process.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

# Starts each message: lengths of header and body, in bytes.
PREFIX = struct.Struct(">IQ")
MAX_HEADER = 64 * 1024

Header = Mapping[str, Any]
Data = bytes | bytearray


def send(connection: socket.socket, header: Header, body: Data, deadline: float | None = None) -> None:
    """Send a message. Raises TimeoutError at the deadline, a value of `time.monotonic()`."""
    encoded = json.dumps(header).encode()
    for part in (PREFIX.pack(len(encoded), len(body)) + encoded, body):
        _set_timeout(connection, deadline)
        connection.sendall(part)


def receive(connection: socket.socket, max_body: int, deadline: float | None = None) -> tuple[Header, bytearray]:
    """Receive a message.

    Raises EOFError at the end of the connection, ValueError for an invalid or too long message, and TimeoutError at the
    deadline.
    """
    header_size, body_size = PREFIX.unpack(_read(connection, PREFIX.size, deadline))
    if header_size > MAX_HEADER or body_size > max_body:
        raise ValueError(f"message too long: {header_size} + {body_size} bytes")
    header = json.loads(_read(connection, header_size, deadline))
    if not isinstance(header, dict):
        raise ValueError("message header is not a JSON object")
    return header, _read(connection, body_size, deadline)


def _read(connection: socket.socket, size: int, deadline: float | None) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        _set_timeout(connection, deadline)
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return data


def _set_timeout(connection: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    connection.settimeout(seconds)

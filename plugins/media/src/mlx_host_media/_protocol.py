"""Messages between the pool and its decoder processes: a JSON header and a body of bytes.

Nothing is pickled: a file may have taken over the decoder that replies.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

# Lengths of header and body, in bytes.
PREFIX = struct.Struct(">IQ")
MAX_HEADER = 64 * 1024

Header = Mapping[str, Any]
Data = bytes | bytearray


def send(connection: socket.socket, header: Header, body: Data, deadline: float | None = None) -> None:
    """Send a message; raises TimeoutError at the deadline, which is a time of the monotonic clock."""
    encoded = json.dumps(header).encode()
    for part in (PREFIX.pack(len(encoded), len(body)) + encoded, body):
        _limit(connection, deadline)
        connection.sendall(part)


def receive(connection: socket.socket, max_body: int, deadline: float | None = None) -> tuple[Header, bytearray]:
    """Receive a message; raises EOFError, ValueError if it is malformed or too long, TimeoutError at the deadline."""
    header_size, body_size = PREFIX.unpack(_read(connection, PREFIX.size, deadline))
    if header_size > MAX_HEADER or body_size > max_body:
        raise ValueError(f"a message with {header_size} + {body_size} bytes")
    header = json.loads(_read(connection, header_size, deadline))
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    return header, _read(connection, body_size, deadline)


def _read(connection: socket.socket, size: int, deadline: float | None) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        _limit(connection, deadline)
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return data


def _limit(connection: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)

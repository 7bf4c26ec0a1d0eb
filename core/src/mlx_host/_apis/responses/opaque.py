"""Opaque text that clients store and send back: the encrypted content of reasoning and compaction items.

It is encoded, not encrypted: what it contains came from the client or was sent to it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from mlx_host.api.http import dumps, loads
from mlx_host.errors import InvalidRequestError

PREFIX = "mlx-host.1."


def encode(value: Any) -> str:
    """Return a JSON value as opaque text."""
    return PREFIX + base64.urlsafe_b64encode(dumps(value).encode(errors="replace")).decode()


def decode(text: object) -> Any:
    """Return the value of opaque text; None if it is from another server."""
    if not isinstance(text, str) or not text.startswith(PREFIX):
        return None
    try:
        return loads(base64.urlsafe_b64decode(text.removeprefix(PREFIX).encode()))
    except (ValueError, binascii.Error, InvalidRequestError):
        return None

"""Reads data: URLs and base64."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from mlx_host_vlm.media.unusable import Unusable


def read_data_url(url: str) -> bytes:
    """The bytes in a data: URL, whatever media type it claims."""
    head, comma, body = url.partition(",")
    if not comma:
        raise Unusable("the data: URL has no comma before its data")
    return read_base64(unquote_to_bytes(body)) if head.lower().endswith(";base64") else unquote_to_bytes(body)


def read_base64(text: str | bytes) -> bytes:
    """Decode base64, in which white space and missing padding do not matter."""
    raw = text.encode("ascii", "replace") if isinstance(text, str) else text
    compact = b"".join(raw.split()).rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    try:
        return base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
    except binascii.Error as error:
        raise Unusable(f"its base64 cannot be read ({error})") from None

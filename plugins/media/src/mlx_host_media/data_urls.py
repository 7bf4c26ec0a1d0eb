"""Decodes data URLs and base64 leniently, as clients send them."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from mlx_host_media.errors import Code, MediaError

BASE64_SUFFIX = re.compile(r";\s*base64\s*$", re.IGNORECASE)


def is_data_url(url: str) -> bool:
    return url.lstrip()[:5].lower() == "data:"


def decode_data_url(url: str, code: Code = "invalid_image") -> bytes:
    """Return the bytes of a data URL, ignoring its media type. Raises MediaError with `code`."""
    head, comma, body = url.partition(",")
    if not comma:
        raise MediaError("the data URL has no comma before its data", code)
    data = unquote_to_bytes(body)
    return decode_base64(data, code) if BASE64_SUFFIX.search(head) else data


def decode_base64(text: str | bytes, code: Code) -> bytes:
    """Decode standard or URL-safe base64, ignoring whitespace and missing padding. Raises MediaError with `code`."""
    raw = text.encode("ascii", "replace") if isinstance(text, str) else text
    compact = b"".join(raw.split()).rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    try:
        return base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
    except binascii.Error as error:
        raise MediaError(f"the base64 data is invalid ({error})", code) from None

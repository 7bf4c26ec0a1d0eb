"""JSON bodies are parsed strictly: any bytes are a value that JSON can represent, or an InvalidRequestError."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_host.api.http import dumps, loads
from mlx_host.errors import InvalidRequestError

# Without unpaired surrogates, which are not valid Unicode.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
SYNTAX = st.text('{}[]:,"\\ue0019-+.ntf \n\ufeff\ud800', max_size=30)


@settings(max_examples=300)
@given(st.binary(max_size=60) | SYNTAX.map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_a_value_or_invalid(body: bytes) -> None:
    try:
        value = loads(body)
    except InvalidRequestError:
        return
    assert loads(dumps(value).encode()) == value


@given(JSON, st.booleans())
def test_valid_json_is_parsed_like_pythons(value: Any, ascii_only: bool) -> None:
    assert loads(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(JSON.map(json.dumps), st.integers(0, 200), st.binary(max_size=3))
def test_damaged_json_is_parsed_like_pythons_or_invalid(text: str, at: int, inserted: bytes) -> None:
    body = text.encode()
    damaged = body[:at] + inserted + body[at + len(inserted) :]
    try:
        value = loads(damaged)
    except InvalidRequestError:
        return
    assert value == json.loads(damaged.decode("utf-8-sig"))

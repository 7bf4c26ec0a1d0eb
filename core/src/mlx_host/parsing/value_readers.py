"""Reading a value that stands between tags, up to the tag that closes it."""

from __future__ import annotations

from mlx_host.parsing.json_scanner import read_json
from mlx_host.parsing.scanner import NotACall, Reading, Scanner
from mlx_host.parsing.schema import Schema


def typed_value(s: Scanner, schema: Schema, *closers: str) -> Reading[str]:
    """Read a value whose type the schema gives, and one of `closers`; return the value."""
    types = schema.types()
    return value_until(s, *closers, json="" if types == {"string"} else "{[" if types else '{["')


def value_until(s: Scanner, *closers: str, json: str = '{["') -> Reading[str]:
    """Read a value and one of `closers`; return the value.

    A closer inside JSON is part of the value if the JSON begins with a character of `json` and is followed by a closer.
    """
    mark = s.mark()
    yield from s.space()
    if json and (yield from s.lookahead(*json)):
        try:
            yield from read_json(s)
            yield from s.space()
            value = s.since(mark)
            yield from s.expect(*closers)
            return value
        except NotACall:
            pass
    s.rewind(mark)
    value, _ = yield from s.until(*closers)
    return value

"""Readers of values between tags."""

from __future__ import annotations

from mlx_host.parsing.json_scanner import read_json
from mlx_host.parsing.scanner import CallSyntaxError, ScanGenerator, Scanner
from mlx_host.parsing.schema import Schema


def read_typed_value(s: Scanner, schema: Schema, *closers: str) -> ScanGenerator[str]:
    """Consume a value and one of `closers`, using the schema's type; return the value."""
    types = schema.types()
    return read_value(s, *closers, json="" if types == {"string"} else "{[" if types else '{["')


def read_value(s: Scanner, *closers: str, json: str = '{["') -> ScanGenerator[str]:
    """Consume a value and one of `closers`; return the value.

    A closer inside JSON belongs to the value if the JSON begins with a character of `json` and is followed by a closer.
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
        except CallSyntaxError:
            pass
    s.rewind(mark)
    value, _ = yield from s.until(*closers)
    return value

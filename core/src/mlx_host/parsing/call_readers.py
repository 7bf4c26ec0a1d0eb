"""Readers for the two notations that several families share."""

from __future__ import annotations

import re

from mlx_host.parsing.arguments import json_object
from mlx_host.parsing.json_scanner import read_json
from mlx_host.parsing.scanner import NotACall, Reader, Reading, Scanner
from mlx_host.parsing.schema import Schema

# Models that lose count of their braces write too many, not too few.
_SPACE_OR_BRACES = re.compile(r"[\s}]*")
_IN_TAG = re.compile(r"[^<>\n]*")


def json_calls(*closers: str, need_arguments: bool = False, id_key: str = "") -> Reader:
    """Make a reader of `{"name": …, "arguments": {…}}` or an array of such, then maybe one of `closers`.

    Each call counts as soon as its object is complete, whether or not the closer comes. With `need_arguments` an object
    without any is text. `id_key` names the member that holds the call's id, where the family writes one.
    """

    def read(s: Scanner) -> Reading[None]:
        yield from s.space()
        if not (yield from s.optional("[")):
            raw = yield from read_json(s, first="{")
            if closers:
                yield from s.run(_SPACE_OR_BRACES)
                yield from s.optional(*closers)
            s.json_call(raw, need_arguments=need_arguments, id_key=id_key)
            return
        separator = ","
        while separator == ",":
            raw = yield from read_json(s, first="{")
            yield from s.space()
            separator = yield from s.optional(",", "]")
            s.json_call(raw, need_arguments=need_arguments, id_key=id_key)
        if closers:
            yield from s.space()
            yield from s.optional(*closers)

    return read


def function_xml(*closers: str) -> Reader:
    """Make a reader of `<function=N><parameter=K>V</parameter>…</function>`, then maybe one of `closers`.

    One newline on either side of V belongs to the tags; the rest of V is data, typed by the tool's schema.
    """

    def read(s: Scanner) -> Reading[None]:
        yield from s.space()
        yield from s.expect("<function=")
        name = (yield from s.run(_IN_TAG)).strip()
        yield from s.expect(">")
        schema = s.schema(name)
        arguments: dict[str, str] = {}
        while True:
            yield from s.space()
            if (yield from s.expect("<parameter=", "</function>")) == "</function>":
                break
            key = (yield from s.run(_IN_TAG)).strip()
            yield from s.expect(">")
            member = schema.member(key)
            value = yield from typed_value(s, member, "</parameter>")
            arguments[key] = member.json(value.removeprefix("\n").removesuffix("\n"))
        yield from s.space()
        yield from s.optional(*closers)
        s.call(name, json_object(arguments))

    return read


def json_or_xml(*closers: str) -> Reader:
    """Make a reader of calls in either notation, JSON as `json_calls` or XML as `function_xml` takes it."""
    json, xml = json_calls(*closers), function_xml(*closers)

    def read(s: Scanner) -> Reading[None]:
        yield from s.space()
        yield from (xml if (yield from s.lookahead("<function=")) else json)(s)

    return read


def typed_value(s: Scanner, schema: Schema, *closers: str) -> Reading[str]:
    """Read a value that the schema types, and one of `closers`; return the value."""
    types = schema.types()
    return value_until(s, *closers, json="" if types == {"string"} else "{[" if types else '{["')


def value_until(s: Scanner, *closers: str, json: str = '{["') -> Reading[str]:
    """Read a value and one of `closers`; return the value.

    A closer within JSON belongs to the value, if it begins with a character of `json`, and a closer stands behind it.
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

"""Parses Gemma's calls: unquoted keys, strings between delimiters.

Inside a string only the delimiter is special, and it ends the string only if the next key or the end of the container
follows; otherwise the model meant a quotation mark. Models also omit the opening delimiter, or write strings as in JSON
or Python. Values without any delimiter are typed by the tool's schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mlx_host.parsing import (
    MAX_DEPTH,
    CallSyntaxError,
    ScanGenerator,
    Scanner,
    Schema,
    is_json,
    json_object,
    json_string,
    literal_json,
)

_NAME = re.compile(r"[^\s<>{}()\"',]*")
_KEY = re.compile(r"[^\s:=,{}\[\]<>\"'`|]*")
_UNDELIMITED = re.compile(r"[^,}\]<]*")
_SPACE_OR_BRACES = re.compile(r"[\s}]*")
_IN_QUOTES = {'"': re.compile(r'[^"\\<]*'), "'": re.compile(r"[^'\\<]*")}
_STARTS = ("{", "[", '"', "'", "-", *"0123456789", "true", "false", "null", "True", "False", "None")


@dataclass(frozen=True)
class CallTokens:
    """The tokens of a Gemma family; `inner` replaces a delimiter inside a string, and `stops` end a turn."""

    opener: str
    closer: str
    delimiter: str
    inner: str
    stops: tuple[str, ...]


# Parses the text after a value. Returns the next key, "," before an item, "" at the end of the container, or None if
# the value continues. If the argument is True, a key counts only if the schema has it or the start of a value follows.
Follows = Callable[[bool], ScanGenerator[str | None]]


class CallParser:
    """Parses one call, `call:NAME{…}` and the closer.

    `follows` parses the text after a value; if nothing there can follow a value, the value continues. After such a
    value, and after values without delimiters, the call is no longer `_unambiguous`: a brace at the end of the output
    does not end it, only its closer does.
    """

    def __init__(self, s: Scanner, tokens: CallTokens) -> None:
        self._s = s
        self._tokens = tokens
        self._delimiter = tokens.delimiter
        self._unambiguous = True
        self._ends = (tokens.closer, tokens.opener, *tokens.stops)

    def read(self) -> ScanGenerator[None]:
        s = self._s
        yield from s.space()
        yield from s.expect("call:")
        name = yield from s.take_while(_NAME)
        yield from s.space()
        s.stream.begin(name)
        arguments = yield from self._object(s.schema(name), 1)
        yield from s.optional(self._tokens.closer)
        s.emit_call(name, arguments)

    def _object(self, schema: Schema, depth: int) -> ScanGenerator[str]:
        s = self._s
        yield from s.expect("{")
        yield from s.space()
        empty = yield from s.lookahead("}")
        key = yield from (self._next_key(schema, depth, False) if empty else self._key())
        if key is None or not (key or empty):
            raise CallSyntaxError
        members: dict[str, str] = {}
        while key:
            follows = partial(self._next_key, schema, depth)
            member = schema.member(key)
            streamed = key if depth == 1 and member.may_be_string() else ""
            members[key], following = yield from self._value(member, follows, depth, streamed)
            if depth == 1:
                s.stream.member(key, members[key])
            key = following
        return json_object(members)

    def _array(self, schema: Schema, depth: int) -> ScanGenerator[str]:
        s = self._s
        yield from s.expect("[")
        yield from s.space()
        items: list[str] = []
        more = "" if (yield from s.optional("]")) else ","
        while more:
            item, more = yield from self._value(schema.item(), self._next_item, depth)
            items.append(item)
        return "[" + ", ".join(items) + "]"

    def _next_key(self, schema: Schema, depth: int, strict: bool) -> ScanGenerator[str | None]:
        s = self._s
        yield from s.space()
        found = yield from s.optional(",", "}")
        if found == ",":
            yield from s.space()
            if not (yield from s.lookahead("}")):
                key = yield from self._key()
                valid = not strict or key in schema.members()
                return key if key and (valid or (yield from s.lookahead(self._delimiter, *_STARTS))) else None
            found = yield from s.expect("}")
        return "" if found and (yield from self._closed(depth)) else None

    def _next_item(self, strict: bool) -> ScanGenerator[str | None]:
        s = self._s
        yield from s.space()
        found = yield from s.optional(",", "]")
        if found == ",":
            yield from s.space()
            found = (yield from s.optional("]")) or ","
        return {",": ",", "]": "", "": None}[found]

    def _closed(self, depth: int) -> ScanGenerator[bool]:
        """Return whether a brace ends its container; it ends the call only before text that may follow a call."""
        if depth > 1:
            return True
        s = self._s
        yield from s.take_while(_SPACE_OR_BRACES)
        return bool((yield from s.lookahead(*self._ends)) or (self._unambiguous and not (yield from s.peek())))

    def _key(self) -> ScanGenerator[str]:
        """Consume a key and its colon; return "" if there is no key."""
        s = self._s
        quote = yield from s.optional('"', "'")
        key = yield from s.take_while(_KEY)
        if quote and not (yield from s.optional(quote)):
            return ""
        yield from s.space()
        return key if (yield from s.optional(":", "=")) else ""

    def _value(
        self, schema: Schema, follows: Follows, depth: int, streamed: str = ""
    ) -> ScanGenerator[tuple[str, str]]:
        """Parse a value and the text that follows it; return both. A string of the key `streamed` is streamed."""
        s = self._s
        yield from s.space()
        start = yield from s.lookahead(self._delimiter, "{", "[")
        if start == self._delimiter:
            yield from s.expect(start)
            if streamed:
                s.stream.text(streamed)
                s.stream.resume()
            return (yield from self._string(schema, follows))
        if not start:
            return (yield from self._undelimited(schema, follows))
        if depth == MAX_DEPTH:
            raise CallSyntaxError
        value = yield from (self._object if start == "{" else self._array)(schema, depth + 1)
        following = yield from follows(False)
        if following is None:
            raise CallSyntaxError
        return value, following

    def _string(self, schema: Schema, follows: Follows) -> ScanGenerator[tuple[str, str]]:
        s = self._s
        pieces: list[str] = []
        while True:
            text, _ = yield from s.until(self._delimiter)
            # If it does not end the string, the delimiter is another character: the rest is streamed with the value.
            s.stream.pause(without_last=True)
            mark = s.mark()
            following = yield from follows(True)
            if following is not None:
                return schema.tagged_json("".join([*pieces, text]), is_string=True), following
            self._unambiguous = False
            pieces += text, self._tokens.inner, s.since(mark)

    def _undelimited(self, schema: Schema, follows: Follows) -> ScanGenerator[tuple[str, str]]:
        """Parse a value without an opening delimiter; it is a string if a delimiter closes it."""
        s = self._s
        start = s.mark()
        literal = yield from self._quoted()
        pieces = [s.since(start)]
        while True:
            pieces.append((yield from s.take_while(_UNDELIMITED)))
            quoted = literal and not pieces[-1].strip()
            delimited = bool((yield from s.optional(self._delimiter)))
            literal = not delimited and (quoted or (len(pieces) == 2 and is_json("".join(pieces))))
            self._unambiguous = self._unambiguous and (delimited or literal)
            mark = s.mark()
            following = yield from follows(not literal)
            if following is not None:
                return _typed("".join(pieces), schema, delimited=delimited, quoted=quoted), following
            literal = self._unambiguous = False
            pieces += self._tokens.inner * delimited, s.since(mark)
            if not delimited and not pieces[-1]:
                pieces.append((yield from self._character()))

    def _quoted(self) -> ScanGenerator[bool]:
        """Consume a string in JSON or Python notation, up to a delimiter; return whether it is complete."""
        s = self._s
        quote = yield from s.optional(*_IN_QUOTES)
        while quote:
            yield from s.take_while(_IN_QUOTES[quote])
            if (yield from s.optional(quote)):
                return True
            if (yield from s.lookahead(self._delimiter, *self._ends)):
                break
            if (yield from self._character()) == "\\":
                yield from self._character()
        return False

    def _character(self) -> ScanGenerator[str]:
        s = self._s
        if not (yield from s.peek()) or (yield from s.lookahead(*self._ends)):
            raise CallSyntaxError
        return s.take(s.pos + 1)


def _typed(text: str, schema: Schema, *, delimited: bool, quoted: bool) -> str:
    if delimited:
        return schema.tagged_json(text, is_string=True)
    stripped = text.strip()
    if not stripped:
        raise CallSyntaxError
    if quoted:
        return literal_json(stripped) or json_string(stripped[1:-1])
    return schema.json(stripped)

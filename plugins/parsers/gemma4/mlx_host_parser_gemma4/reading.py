"""Reading Gemma's calls: bare keys, strings between delimiters.

Inside a string only the delimiter counts, and it ends the string only where the next key or the end of the container
follows; elsewhere the model meant a quotation mark. The models also leave out the opening delimiter or write strings as
in JSON or Python; a value without any delimiter is typed by the tool's schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mlx_host.parsing import (
    DEEPEST,
    NotACall,
    Reading,
    Scanner,
    Schema,
    is_json,
    json_object,
    json_string,
    literal_json,
)

_NAME = re.compile(r"[^\s<>{}()\"',]*")
_KEY = re.compile(r"[^\s:,{}\[\]<>\"'`|]*")
_BARE = re.compile(r"[^,}\]<]*")
_SPACE_OR_BRACES = re.compile(r"[\s}]*")
_IN_QUOTES = {'"': re.compile(r'[^"\\<]*'), "'": re.compile(r"[^'\\<]*")}
_STARTS = ("{", "[", '"', "'", "-", *"0123456789", "true", "false", "null", "True", "False", "None")


@dataclass(frozen=True)
class Tokens:
    """The tokens of a Gemma family; `inner` is what a delimiter within a string stands for, `stops` end a turn."""

    opener: str
    closer: str
    delimiter: str
    inner: str
    stops: tuple[str, ...]


# What follows a value: the next key, "," before an item, "" at the end, None if the value goes on. If the argument is
# True, a key counts only if the schema has it or the beginning of a value stands behind it.
Follows = Callable[[bool], Reading[str | None]]


class CallReading:
    """Reads one call, `call:NAME{…}` and the closer; `more` reads what follows a value.

    Where `more` finds nothing that can follow a value, the value goes on. From then on, and after a value without
    delimiters, a brace at the end of the output no longer ends the call for `sure`; only its closer does.
    """

    def __init__(self, s: Scanner, tokens: Tokens) -> None:
        self._s = s
        self._tokens = tokens
        self._delimiter = tokens.delimiter
        self._sure = True
        self._ends = (tokens.closer, tokens.opener, *tokens.stops)

    def read(self) -> Reading[None]:
        s = self._s
        yield from s.space()
        yield from s.expect("call:")
        name = yield from s.run(_NAME)
        yield from s.space()
        arguments = yield from self._object(s.schema(name), 1)
        yield from s.optional(self._tokens.closer)
        s.call(name, arguments)

    def _object(self, schema: Schema, depth: int) -> Reading[str]:
        s = self._s
        yield from s.expect("{")
        yield from s.space()
        empty = yield from s.lookahead("}")
        key = yield from (self._next_key(schema, depth, False) if empty else self._key())
        if key is None or not (key or empty):
            raise NotACall
        members: dict[str, str] = {}
        while key:
            more = partial(self._next_key, schema, depth)
            members[key], following = yield from self._value(schema.member(key), more, depth)
            key = following
        return json_object(members)

    def _array(self, schema: Schema, depth: int) -> Reading[str]:
        s = self._s
        yield from s.expect("[")
        yield from s.space()
        items: list[str] = []
        more = "" if (yield from s.optional("]")) else ","
        while more:
            item, more = yield from self._value(schema.item(), self._next_item, depth)
            items.append(item)
        return "[" + ", ".join(items) + "]"

    def _next_key(self, schema: Schema, depth: int, strict: bool) -> Reading[str | None]:
        s = self._s
        yield from s.space()
        found = yield from s.optional(",", "}")
        if found == ",":
            yield from s.space()
            if not (yield from s.lookahead("}")):
                key = yield from self._key()
                sure = not strict or key in schema.members()
                return key if key and (sure or (yield from s.lookahead(self._delimiter, *_STARTS))) else None
            found = yield from s.expect("}")
        return "" if found and (yield from self._closed(depth)) else None

    def _next_item(self, strict: bool) -> Reading[str | None]:
        s = self._s
        yield from s.space()
        found = yield from s.optional(",", "]")
        if found == ",":
            yield from s.space()
            found = (yield from s.optional("]")) or ","
        return {",": ",", "]": "", "": None}[found]

    def _closed(self, depth: int) -> Reading[bool]:
        """A brace ends the call only in front of what may follow a call."""
        if depth > 1:
            return True
        s = self._s
        yield from s.run(_SPACE_OR_BRACES)
        return bool((yield from s.lookahead(*self._ends)) or (self._sure and not (yield from s.peek())))

    def _key(self) -> Reading[str]:
        """Read a key and its colon; "" if there is none."""
        s = self._s
        quote = yield from s.optional('"', "'")
        key = yield from s.run(_KEY)
        if quote and not (yield from s.optional(quote)):
            return ""
        yield from s.space()
        return key if (yield from s.optional(":")) else ""

    def _value(self, schema: Schema, more: Follows, depth: int) -> Reading[tuple[str, str]]:
        """Read a value and what follows; return both."""
        s = self._s
        yield from s.space()
        start = yield from s.lookahead(self._delimiter, "{", "[")
        if start == self._delimiter:
            yield from s.expect(start)
            return (yield from self._string(more))
        if not start:
            return (yield from self._bare(schema, more))
        if depth == DEEPEST:
            raise NotACall
        value = yield from (self._object if start == "{" else self._array)(schema, depth + 1)
        following = yield from more(False)
        if following is None:
            raise NotACall
        return value, following

    def _string(self, more: Follows) -> Reading[tuple[str, str]]:
        s = self._s
        pieces: list[str] = []
        while True:
            text, _ = yield from s.until(self._delimiter)
            mark = s.mark()
            following = yield from more(True)
            if following is not None:
                return json_string("".join([*pieces, text])), following
            self._sure = False
            pieces += text, self._tokens.inner, s.since(mark)

    def _bare(self, schema: Schema, more: Follows) -> Reading[tuple[str, str]]:
        """Read a value that no delimiter opens; if one closes it, it is a string."""
        s = self._s
        start = s.mark()
        literal = yield from self._quoted()
        pieces = [s.since(start)]
        while True:
            pieces.append((yield from s.run(_BARE)))
            quoted = literal and not pieces[-1].strip()
            delimited = bool((yield from s.optional(self._delimiter)))
            literal = not delimited and (quoted or (len(pieces) == 2 and is_json("".join(pieces))))
            self._sure = self._sure and (delimited or literal)
            mark = s.mark()
            following = yield from more(not literal)
            if following is not None:
                return _typed("".join(pieces), schema, delimited=delimited, quoted=quoted), following
            literal = self._sure = False
            pieces += self._tokens.inner * delimited, s.since(mark)
            if not delimited and not pieces[-1]:
                pieces.append((yield from self._character()))

    def _quoted(self) -> Reading[bool]:
        """Read a string as JSON or Python writes it, up to a delimiter; tell whether it is there and complete."""
        s = self._s
        quote = yield from s.optional(*_IN_QUOTES)
        while quote:
            yield from s.run(_IN_QUOTES[quote])
            if (yield from s.optional(quote)):
                return True
            if (yield from s.lookahead(self._delimiter, *self._ends)):
                break
            if (yield from self._character()) == "\\":
                yield from self._character()
        return False

    def _character(self) -> Reading[str]:
        s = self._s
        if not (yield from s.peek()) or (yield from s.lookahead(*self._ends)):
            raise NotACall
        return s.take(s.at + 1)


def _typed(text: str, schema: Schema, *, delimited: bool, quoted: bool) -> str:
    if delimited:
        return json_string(text)
    bare = text.strip()
    if not bare:
        raise NotACall
    if quoted:
        return literal_json(bare) or json_string(bare[1:-1])
    return schema.json(bare)

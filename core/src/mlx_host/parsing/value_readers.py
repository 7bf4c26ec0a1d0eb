"""Readers of values between tags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlx_host.parsing.json_scanner import read_json
from mlx_host.parsing.literal_matcher import literal_matcher
from mlx_host.parsing.scanner import CallSyntaxError, ScanGenerator, Scanner
from mlx_host.parsing.schema import Schema


@dataclass(frozen=True)
class ValueTags:
    """The tags around a value: those that close it, open the next argument, end the call, and end what is around it.

    The next argument must begin on a new line unless `glued`.
    """

    closers: tuple[str, ...]
    openers: tuple[str, ...]
    ends: tuple[str, ...]
    outer: tuple[str, ...] = ()
    glued: bool = False


def json_starts(schema: Schema) -> str:
    """Return the first characters of values of a schema that may be JSON, for `read_value`."""
    types = schema.types()
    return "" if types == {"string"} else "{[" if types else '{["'


def read_value(
    s: Scanner, tags: ValueTags, is_argument: Callable[[str], ScanGenerator[bool]], *, json: str = '{["'
) -> ScanGenerator[str]:
    """Consume a value and its closing tag, and return the value.

    A closing tag inside JSON belongs to the value if the JSON begins with a character of `json` and is followed by a
    closing tag. Elsewhere it ends the value if the next argument or the end of the call follows. If it is missing, the
    opening tag of another argument or the end of the call ends a value that is not blank; these are not consumed.
    `is_argument` consumes the rest of an opening tag and returns whether its argument is declared and still missing.
    After `CallStream.text` the value is streamed as it grows.
    """
    if json and (found := (yield from _read_json(s, json, tags.closers))) is not None:
        return found
    mark = s.mark()
    length = yield from _find_end(s, tags, is_argument)
    text = s.since(mark)
    if text[length:] in tags.closers:
        return text[:length]
    s.rewind(mark)
    s.take(s.pos + length)
    return text[:length].removesuffix("\n")


def read_typed_value(s: Scanner, schema: Schema, *closers: str) -> ScanGenerator[str]:
    """Consume and return a value, through the first of `closers` that is not in JSON which the schema allows."""
    json = json_starts(schema)
    if json and (found := (yield from _read_json(s, json, closers))) is not None:
        return found
    value, _ = yield from s.until(*closers)
    return value


def _read_json(s: Scanner, starts: str, closers: tuple[str, ...]) -> ScanGenerator[str | None]:
    """Consume JSON that begins with a character of `starts` and one of `closers`; None if that does not follow."""
    mark = s.mark()
    yield from s.space()
    if (yield from s.lookahead(*starts)):
        try:
            yield from read_json(s)
            yield from s.space()
            value = s.since(mark)
            yield from s.expect(*closers)
            return value
        except CallSyntaxError:
            pass
    s.rewind(mark)
    return None


def _find_end(s: Scanner, tags: ValueTags, is_argument: Callable[[str], ScanGenerator[bool]]) -> ScanGenerator[int]:
    """Consume text through the tag that ends the value, and return the length of the value.

    The value is streamed up to the first tag that may end it.
    """
    others = (*tags.openers, *tags.ends, *tags.outer)
    stops = (*tags.closers, *others, *s.call_starts)
    length, last = 0, ""
    blank = True
    has_closer = has_call = False
    fallback: int | None = None
    while True:
        if fallback is None:
            s.stream.resume()
        try:
            before, found = yield from s.until(*stops)
        except CallSyntaxError:
            if fallback is None or s.truncated:
                raise
            return fallback
        s.stream.pause(without_last=True)
        end = length + len(before)
        blank = blank and not before.strip()
        line_start = (before[-1:] or last) == "\n"
        length, last = end + len(found), found[-1]
        after = s.mark()
        if found in tags.closers:
            yield from s.space()
            if (yield from s.lookahead(*others)) or (yield from at_natural_end(s, *others)):
                s.rewind(after)
                return end
            has_closer = True
        elif found in tags.openers:
            if not blank and (line_start or tags.glued) and (yield from is_argument(found)):
                return end
        elif found not in (*tags.ends, *tags.outer):
            has_call = True
        else:
            ended = found in tags.outer or not tags.outer
            gap = yield from s.space()
            if not ended and tags.outer and (yield from s.optional(*tags.outer)):
                ended = True
                yield from s.space()
            another = bool(s.call_starts and (yield from s.lookahead(*s.call_starts)))
            # On one line, text that mentions the tags is more likely than another call.
            another = another and (ended or "\n" in gap or not gap)
            if another or (yield from at_natural_end(s, *tags.outer)):
                if not (has_closer or has_call):
                    return end
                if not has_call:
                    # A value that contains a closing tag and perhaps another call: there is no sensible reading.
                    raise CallSyntaxError
            elif ended and fallback is None and not (has_closer or has_call):
                fallback = end
        # What has been looked at may contain the next tag.
        s.rewind(after)


def at_natural_end(s: Scanner, *closers: str) -> ScanGenerator[bool]:
    """Return whether the model ended the output here, or within one of `closers`, which must have been looked for."""
    rest = bool((yield from s.peek()))
    if rest and not (s.ended and closers and literal_matcher(*closers).is_proper_prefix(s.text[s.pos :])):
        return False
    return s.ended and not s.truncated

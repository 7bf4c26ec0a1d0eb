"""Parsing of damaged JSON in calls, and its repair if the damage has only one sensible reading.

`json-repair` is not used: it needs the whole text, but the end of a call is found by parsing its JSON; it returns a
value for every text, including truncated strings and prose; and it takes 20 seconds for a string of 1 MB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from mlx_host.parsing.arguments import is_json
from mlx_host.parsing.json_scanner import MAX_DEPTH, read_json
from mlx_host.parsing.scanner import SPACE, CallSyntaxError, ScanGenerator, Scanner

FENCES = ("```json", "```")

_CLOSERS = {"{": "}", "[": "]"}
_IN_STRING = {'"': re.compile(r'[^"\\\x00-\x1f]*'), "'": re.compile(r"[^'\\\x00-\x1f]*")}
_HEX = re.compile(r"[0-9a-fA-F]{0,4}")
_WORD = re.compile(r"[\w$.+-]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS = {"true": "true", "True": "true", "false": "false", "False": "false", "null": "null", "None": "null"}
_KEY = re.compile(r"[^\W\d]\w*")
_IN_LINE_COMMENT = re.compile(r"[^\n<\[\]|｜`]*")


def read_arguments(
    s: Scanner, function: str, *closers: str, id: str | None = None, stream: bool = True
) -> ScanGenerator[str]:
    """Consume the arguments of a call to `function`, a JSON object or string, and return their JSON.

    Arguments are streamed as they grow unless `stream` is False; `id` is the id of the call.

    Arguments may be in a Markdown fence. Damaged ones are repaired if the function is a tool and its schema allows the
    result; `closers` are the strings that end the call, where missing brackets are added.
    """
    fenced = yield from open_fence(s)
    if stream:
        s.stream.begin(function, id)
        s.stream.json_object()
    raw = yield from _read_object(s, lambda raw: s.tools.accepts(function, raw), closers, first='{"')
    if fenced:
        yield from s.space()
        yield from s.optional("```")
    return raw


def read_call_object(s: Scanner, *closers: str, in_array: bool = False, only_tools: bool = False) -> ScanGenerator[str]:
    """Consume a JSON object with a function's name and arguments and return its JSON; see `read_arguments`.

    With `only_tools` only calls to the tools are streamed.
    """
    s.stream.call_object(only_tools=only_tools)
    return _read_object(s, s.accepts_json_call, closers, first="{", in_array=in_array)


def open_fence(s: Scanner) -> ScanGenerator[bool]:
    """Consume whitespace and the opening of a Markdown fence; return whether there was a fence."""
    yield from s.space()
    fence = yield from s.optional(*FENCES)
    yield from s.space()
    return bool(fence)


def _read_object(
    s: Scanner, accept: Callable[[str], bool], closers: tuple[str, ...], *, first: str, in_array: bool = False
) -> ScanGenerator[str]:
    mark = s.mark()
    try:
        return (yield from read_json(s, first=first))
    except CallSyntaxError:
        strict_length = len(s.since(mark))
    finally:
        s.stream.stop()
    if s.repair:
        s.rewind(mark)
        try:
            repaired = yield from _read_damaged(s, closers, in_array=in_array)
            if is_json(repaired) and accept(repaired):
                s.repaired = True
                return repaired
        except CallSyntaxError:
            pass
        # The result for text that cannot be repaired must be the same as without repair.
        s.rewind(mark)
        s.take(s.pos + strict_length)
    raise CallSyntaxError


def _read_damaged(s: Scanner, closers: tuple[str, ...], *, in_array: bool) -> ScanGenerator[str]:
    """Consume an object up to its end and return it as JSON.

    Accepted are: control characters and unknown escapes in strings, single quotes, keys without quotes, Python's words,
    comments, commas before a bracket, and missing brackets before one of `closers` or the bracket of the array around
    the object.
    """
    pieces: list[str] = []
    brackets: list[str] = []
    value_expected = True
    while True:
        yield from _skip(s, closers)
        char = yield from s.peek()
        if brackets and not value_expected:
            ends = in_array and char == "]" and "]" not in brackets
            if ends or (closers and (yield from s.lookahead(*closers))):
                _drop_comma(pieces)
                return "".join([*pieces, *reversed(brackets)])
            if char == brackets[-1]:
                s.take(s.pos + 1)
                _drop_comma(pieces)
                pieces.append(brackets.pop())
                if not brackets:
                    return "".join(pieces)
                continue
            if pieces[-1] not in ("{", "[", ","):
                if char != ",":
                    raise CallSyntaxError
                s.take(s.pos + 1)
                pieces.append(",")
                continue
            if brackets[-1] == "}":
                pieces.append((yield from _key(s)))
                yield from _skip(s, closers)
                yield from s.expect(":")
                pieces.append(":")
                value_expected = True
                continue
        elif not brackets and char != "{":
            raise CallSyntaxError
        value_expected = False
        if char in _CLOSERS:
            if len(brackets) == MAX_DEPTH:
                raise CallSyntaxError
            s.take(s.pos + 1)
            pieces.append(char)
            brackets.append(_CLOSERS[char])
        elif char in _IN_STRING:
            pieces.append((yield from _string(s, char)))
        else:
            pieces.append((yield from _word(s)))


def _drop_comma(pieces: list[str]) -> None:
    if pieces[-1] == ",":
        pieces.pop()


def _key(s: Scanner) -> ScanGenerator[str]:
    char = yield from s.peek()
    if char in _IN_STRING:
        return (yield from _string(s, char))
    if not _KEY.fullmatch(char):
        raise CallSyntaxError
    key = yield from s.take_while(_WORD)
    if not _KEY.fullmatch(key):
        raise CallSyntaxError
    return json.dumps(key, ensure_ascii=False)


def _word(s: Scanner) -> ScanGenerator[str]:
    word = yield from s.take_while(_WORD)
    if word not in _WORDS and not _NUMBER.fullmatch(word):
        raise CallSyntaxError
    return _WORDS.get(word, word)


def _string(s: Scanner, quote: str) -> ScanGenerator[str]:
    """Consume a string and return it as JSON: escapes that JSON lacks are kept literally."""
    s.take(s.pos + 1)
    pieces = ['"']
    while True:
        text = yield from s.take_while(_IN_STRING[quote])
        pieces.append(text.replace('"', '\\"'))
        char = yield from s.peek()
        if not char:
            raise CallSyntaxError
        s.take(s.pos + 1)
        if char == quote:
            return "".join([*pieces, '"'])
        pieces.append((yield from _escape(s, quote)) if char == "\\" else json.dumps(char)[1:-1])


def _escape(s: Scanner, quote: str) -> ScanGenerator[str]:
    """Consume the text after a backslash, as far as it is an escape, and return the escape in JSON."""
    char = yield from s.peek()
    if char == "u":
        s.take(s.pos + 1)
        digits = ""
        while len(digits) < 4 and _HEX.fullmatch(digits + (digit := (yield from s.peek()))) and digit:
            digits += s.take(s.pos + 1)
        return f"\\u{digits}" if len(digits) == 4 else f"\\\\u{digits}"
    if char and char in '"\\/bfnrt':
        s.take(s.pos + 1)
        return f"\\{char}"
    if char == quote:
        return s.take(s.pos + 1)
    return "\\\\"


def _skip(s: Scanner, closers: tuple[str, ...]) -> ScanGenerator[None]:
    """Consume whitespace and comments; a comment ends with its line, or before one of `closers`."""
    yield from s.take_while(SPACE)
    while found := (yield from s.lookahead("//", "/*", "#")):
        s.take(s.pos + len(found))
        if found == "/*":
            yield from s.until("*/")
        else:
            yield from _line_comment(s, closers)
        yield from s.take_while(SPACE)


def _line_comment(s: Scanner, closers: tuple[str, ...]) -> ScanGenerator[None]:
    while True:
        yield from s.take_while(_IN_LINE_COMMENT)
        char = yield from s.peek()
        if char in ("", "\n") or (closers and (yield from s.lookahead(*closers))):
            return
        s.take(s.pos + 1)

"""Incremental scanning of JSON values and of bracketed text."""

from __future__ import annotations

import re

from mlx_host.parsing.scanner import CallSyntaxError, ScanGenerator, Scanner

# Deeper than real arguments, and within the recursion limits of JSON parsers.
MAX_DEPTH = 128

_SPACE = re.compile(r"[ \t\n\r]*")
_IN_STRING = re.compile(r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_DIGITS = re.compile(r"[0-9]*")
_HEX = re.compile(r"[0-9a-fA-F]")
_WORDS = {"t": "true", "f": "false", "n": "null"}
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def read_json(s: Scanner, first: str = "") -> ScanGenerator[str]:
    """Consume one strict JSON value and return its text; stop at the first invalid character.

    `first` restricts the first character, such as "{" or "[{". Whitespace before the value is consumed, too.
    """
    yield from s.take_while(_SPACE)
    if first:
        yield from _check(s, first)
    mark = s.mark()
    closers: list[str] = []
    while True:
        if not (yield from _value(s, closers)):
            continue
        while closers:
            yield from s.take_while(_SPACE)
            if (yield from s.expect(",", closers[-1])) == ",":
                if closers[-1] == "}":
                    yield from _key(s)
                break
            closers.pop()
        else:
            return s.since(mark)


def read_balanced(s: Scanner, quotes: tuple[str, ...] = ('"', "'"), escape: str = "\\") -> ScanGenerator[str]:
    """Consume and return text from an opening bracket through its closing bracket.

    Brackets inside `quotes` do not count, nor do quotes after `escape` ("": no escapes).
    """
    mark = s.mark()
    closers = [_PAIRS[(yield from s.expect(*_PAIRS))]]
    while closers:
        _, found = yield from s.until(*_PAIRS, *_PAIRS.values(), *quotes)
        if found in quotes:
            stops = (found, escape) if escape else (found,)
            while (yield from s.until(*stops))[1] != found:
                if not (yield from s.peek()):
                    raise CallSyntaxError
                s.take(s.pos + 1)
        elif found in _PAIRS:
            closers.append(_PAIRS[found])
            if len(closers) > MAX_DEPTH:
                raise CallSyntaxError
        elif found != closers.pop():
            raise CallSyntaxError
    return s.since(mark)


def _check(s: Scanner, allowed: str) -> ScanGenerator[str]:
    char = yield from s.peek()
    if not char or char not in allowed:
        raise CallSyntaxError
    return char


def _value(s: Scanner, closers: list[str]) -> ScanGenerator[bool]:
    """Consume a value, or the beginning of a container; return whether the value is complete."""
    yield from s.take_while(_SPACE)
    char = yield from s.peek()
    if char in ("{", "["):
        if len(closers) == MAX_DEPTH:
            raise CallSyntaxError
        s.take(s.pos + 1)
        closer = _PAIRS[char]
        yield from s.take_while(_SPACE)
        if (yield from s.peek()) == closer:
            s.take(s.pos + 1)
            return True
        closers.append(closer)
        if char == "{":
            yield from _key(s)
        return False
    if char == '"':
        yield from _string(s)
    elif char in _WORDS:
        yield from s.expect(_WORDS[char])
    else:
        yield from _number(s)
    return True


def _key(s: Scanner) -> ScanGenerator[None]:
    yield from s.take_while(_SPACE)
    yield from _string(s)
    yield from s.take_while(_SPACE)
    yield from s.expect(":")


def _string(s: Scanner) -> ScanGenerator[None]:
    yield from s.expect('"')
    while True:
        yield from s.take_while(_IN_STRING)
        if (yield from s.expect('"', "\\")) == '"':
            return
        # The pattern stops at an escape that is incomplete or invalid.
        if (yield from s.expect(*'"\\/bfnrtu')) == "u":
            for _ in range(4):
                if not _HEX.match((yield from s.peek())):
                    raise CallSyntaxError
                s.take(s.pos + 1)


def _number(s: Scanner) -> ScanGenerator[None]:
    if (yield from s.peek()) == "-":
        s.take(s.pos + 1)
    if (yield from s.peek()) == "0":
        s.take(s.pos + 1)
    else:
        yield from _digits(s)
    if (yield from s.peek()) == ".":
        s.take(s.pos + 1)
        yield from _digits(s)
    if (yield from s.peek()) in ("e", "E"):
        s.take(s.pos + 1)
        if (yield from s.peek()) in ("+", "-"):
            s.take(s.pos + 1)
        yield from _digits(s)


def _digits(s: Scanner) -> ScanGenerator[None]:
    if not (yield from s.take_while(_DIGITS)):
        raise CallSyntaxError

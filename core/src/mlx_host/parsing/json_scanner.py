"""Where a value ends, found while it arrives."""

from __future__ import annotations

import re

from mlx_host.parsing.scanner import NotACall, Reading, Scanner

# Deeper than any real arguments and shallow enough for every JSON reader's recursion.
DEEPEST = 128

_SPACE = re.compile(r"[ \t\n\r]*")
_IN_STRING = re.compile(r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_DIGITS = re.compile(r"[0-9]*")
_HEX = re.compile(r"[0-9a-fA-F]")
_WORDS = {"t": "true", "f": "false", "n": "null"}
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def read_json(s: Scanner, first: str = "") -> Reading[str]:
    """Read one strict JSON value and return it as written; stop at the first character that cannot belong to one.

    `first` restricts how the value may begin, such as "{" or "[{". White space before the value is read, too.
    """
    yield from s.run(_SPACE)
    if first:
        yield from _check(s, first)
    mark = s.mark()
    closers: list[str] = []
    while True:
        if not (yield from _value(s, closers)):
            continue
        while closers:
            yield from s.run(_SPACE)
            if (yield from s.expect(",", closers[-1])) == ",":
                if closers[-1] == "}":
                    yield from _key(s)
                break
            closers.pop()
        else:
            return s.since(mark)


def read_balanced(s: Scanner, quotes: tuple[str, ...] = ('"', "'"), escape: str = "\\") -> Reading[str]:
    """Read from an opening bracket through the one that closes it and return that.

    Brackets between two equal `quotes` do not count, nor does a quote after `escape` ("" for no escapes).
    """
    mark = s.mark()
    closers = [_PAIRS[(yield from s.expect(*_PAIRS))]]
    while closers:
        _, found = yield from s.until(*_PAIRS, *_PAIRS.values(), *quotes)
        if found in quotes:
            stops = (found, escape) if escape else (found,)
            while (yield from s.until(*stops))[1] != found:
                if not (yield from s.peek()):
                    raise NotACall
                s.take(s.at + 1)
        elif found in _PAIRS:
            closers.append(_PAIRS[found])
            if len(closers) > DEEPEST:
                raise NotACall
        elif found != closers.pop():
            raise NotACall
    return s.since(mark)


def _check(s: Scanner, allowed: str) -> Reading[str]:
    char = yield from s.peek()
    if not char or char not in allowed:
        raise NotACall
    return char


def _value(s: Scanner, closers: list[str]) -> Reading[bool]:
    """Read a value, or only the beginning of one that holds others; tell whether it is complete."""
    yield from s.run(_SPACE)
    char = yield from s.peek()
    if char in ("{", "["):
        if len(closers) == DEEPEST:
            raise NotACall
        s.take(s.at + 1)
        closer = _PAIRS[char]
        yield from s.run(_SPACE)
        if (yield from s.peek()) == closer:
            s.take(s.at + 1)
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


def _key(s: Scanner) -> Reading[None]:
    yield from s.run(_SPACE)
    yield from _string(s)
    yield from s.run(_SPACE)
    yield from s.expect(":")


def _string(s: Scanner) -> Reading[None]:
    yield from s.expect('"')
    while True:
        yield from s.run(_IN_STRING)
        if (yield from s.expect('"', "\\")) == '"':
            return
        # The pattern stops at an escape that is not complete yet, or wrong.
        if (yield from s.expect(*'"\\/bfnrtu')) == "u":
            for _ in range(4):
                if not _HEX.match((yield from s.peek())):
                    raise NotACall
                s.take(s.at + 1)


def _number(s: Scanner) -> Reading[None]:
    if (yield from s.peek()) == "-":
        s.take(s.at + 1)
    if (yield from s.peek()) == "0":
        s.take(s.at + 1)
    else:
        yield from _digits(s)
    if (yield from s.peek()) == ".":
        s.take(s.at + 1)
        yield from _digits(s)
    if (yield from s.peek()) in ("e", "E"):
        s.take(s.at + 1)
        if (yield from s.peek()) in ("+", "-"):
            s.take(s.at + 1)
        yield from _digits(s)


def _digits(s: Scanner) -> Reading[None]:
    if not (yield from s.run(_DIGITS)):
        raise NotACall

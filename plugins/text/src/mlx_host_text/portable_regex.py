"""Narrows the regular expressions of JSON schemas to what ECMAScript, Python and Rust match alike.

llguidance uses Rust's regex syntax, validators use another one. The narrowed expression only matches text that matches
in all three; an expression that cannot be narrowed is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Characters that only some regex engines count as a digit, a word character or whitespace.
_MORE = {
    "d": r"\p{Nd}",
    "w": r"\p{Alphabetic}\p{M}\p{N}\p{Pc}\u200c\u200d",
    "s": r"\s\x1c-\x1f\x85\ufeff",
}
_ALL = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\x0b\f\r "}
# Known to all three, or rejected by llguidance with a clear message.
_ESCAPES = frozenset("tnrfvxupPbB")
DOT = r"[^\n\r\u2028\u2029]"
"""The characters that a dot matches in every regex engine."""
_GROUP = re.compile(r"\(\?(:|=|!|<|P<|i\)|i:)")


class AmbiguousRegexError(ValueError):
    """Regex engines interpret the pattern differently; the message contains the reason."""


def to_portable_regex(pattern: str) -> str:
    """Narrow a pattern to what every regex engine matches; raises AmbiguousRegexError."""
    return "".join(_pieces(pattern))


def _pieces(pattern: str) -> Iterator[str]:
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            piece, length = _escape(pattern[at + 1 : at + 2], negated=False, inside=False), 2
        elif char == "[":
            end = _class_end(pattern, at)
            piece, length = _class(pattern[at + 1 : end]), end + 1 - at
        elif char == ".":
            piece, length = DOT, 1
        elif pattern.startswith("(?", at) and not _GROUP.match(pattern, at):
            raise AmbiguousRegexError(f"the group {pattern[at : at + 4]!r} is not supported by all regex engines")
        else:
            piece, length = char, 1
        yield piece
        at += length


def _class_end(pattern: str, start: int) -> int:
    at = start + (2 if pattern.startswith("[^", start) else 1)
    if pattern.startswith("]", at):
        raise AmbiguousRegexError("a class that begins with ']' is empty in some regex engines; write '\\]'")
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    if at >= len(pattern):
        raise AmbiguousRegexError("a class is not closed")
    return at


def _class(body: str) -> str:
    negated = body.startswith("^")
    if "--" in body:
        raise AmbiguousRegexError("'--' in a class is a set difference in some regex engines; write '\\-'")
    pieces = ["[^" if negated else "["]
    at = int(negated)
    while at < len(body):
        if body[at] == "\\":
            pieces.append(_escape(body[at + 1 : at + 2], negated=negated, inside=True))
            at += 2
            continue
        # Rust supports nested classes and set operations.
        pieces.append("\\" + body[at] if body[at] in "[&~" else body[at])
        at += 1
    return "".join(pieces) + "]"


def _escape(char: str, *, negated: bool, inside: bool) -> str:
    kind = char.lower()
    if kind in _ALL:
        if char == kind:
            members = _ALL[kind] + (_MORE[kind] if negated else "")
            return members if inside else f"[{members}]"
        if negated:
            raise AmbiguousRegexError(f"'\\{char}' in a negated class differs between regex engines")
        return f"[^{_ALL[kind]}{_MORE[kind]}]"
    if char.isalnum() and char not in _ESCAPES:
        raise AmbiguousRegexError(f"'\\{char}' differs between regex engines or is not supported by all of them")
    return char if char in "<>" else "\\" + char

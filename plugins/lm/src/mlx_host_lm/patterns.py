"""Regular expressions of JSON schemas, written so that ECMAScript, Python and Rust read what they match alike.

llguidance reads Rust's dialect; who checks the answer reads another one. What is written here matches nothing that one
of the three would not; where that cannot be said by rewriting, the expression is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# What some dialect takes for a digit, a word's letter or a blank beyond what all do.
_MORE = {
    "d": r"\p{Nd}",
    "w": r"\p{Alphabetic}\p{M}\p{N}\p{Pc}\u200c\u200d",
    "s": r"\s\x1c-\x1f\x85\ufeff",
}
_ALL = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\x0b\f\r "}
# Known to all three, or refused by llguidance with good words.
_ESCAPES = frozenset("tnrfvxupPbB")
DOT = r"[^\n\r\u2028\u2029]"
"""What every dialect takes a dot for."""
_GROUP = re.compile(r"\(\?(:|=|!|<|P<|i\)|i:)")


class Ambiguous(ValueError):
    """A pattern that dialects read differently; the text says why."""


def portable(pattern: str) -> str:
    """Narrow a pattern to what every dialect matches; raises Ambiguous."""
    return "".join(_pieces(pattern))


def _pieces(pattern: str) -> Iterator[str]:
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            piece, taken = _escape(pattern[at + 1 : at + 2], negated=False, inside=False), 2
        elif char == "[":
            end = _class_end(pattern, at)
            piece, taken = _class(pattern[at + 1 : end]), end + 1 - at
        elif char == ".":
            piece, taken = DOT, 1
        elif pattern.startswith("(?", at) and not _GROUP.match(pattern, at):
            raise Ambiguous(f"the group {pattern[at : at + 4]!r} is not known to all dialects")
        else:
            piece, taken = char, 1
        yield piece
        at += taken


def _class_end(pattern: str, start: int) -> int:
    at = start + (2 if pattern.startswith("[^", start) else 1)
    if pattern.startswith("]", at):
        raise Ambiguous("a class that begins with ']' is empty to some dialects; write '\\]'")
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    if at >= len(pattern):
        raise Ambiguous("a class is not closed")
    return at


def _class(body: str) -> str:
    negated = body.startswith("^")
    if "--" in body:
        raise Ambiguous("'--' in a class is a difference to some dialects; write '\\-'")
    pieces = ["[^" if negated else "["]
    at = int(negated)
    while at < len(body):
        if body[at] == "\\":
            pieces.append(_escape(body[at + 1 : at + 2], negated=negated, inside=True))
            at += 2
            continue
        # Rust nests classes and combines them.
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
            raise Ambiguous(f"'\\{char}' in a negated class is read differently by dialects")
        return f"[^{_ALL[kind]}{_MORE[kind]}]"
    if char.isalnum() and char not in _ESCAPES:
        raise Ambiguous(f"'\\{char}' is read differently by dialects, or known to some alone")
    return char if char in "<>" else "\\" + char

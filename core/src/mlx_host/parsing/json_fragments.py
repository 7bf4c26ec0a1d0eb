"""Splits JSON text that arrives in chunks into fragments after each of which brackets and quotes alone complete it.

All of them take text that a reader has already checked, such as `read_json`; invalid text stops them.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from mlx_host.parsing.arguments import json_string

# Complete characters of a string: a surrogate pair is one, and an unpaired surrogate needs the text after it.
_STRING_TEXT = re.compile(
    r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?![dD][89abAB])[0-9a-fA-F]{4}'
    r"|u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?=[^\\]|\\[^u]|\\u(?:[^dD]|[dD][^c-fC-F])))))*+",
)
_KEY_TEXT = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_BETWEEN = re.compile(r"[\s:]*")
_WORD = re.compile(r"[\w.+-]*")
_SPACE_OR_STRING = re.compile(r'("(?:[^"\\]++|\\.)*+"?)|\s+', re.DOTALL)
_CLOSERS = {"{": "}", "[": "]"}


class _State(Enum):
    BETWEEN = auto()
    KEY = auto()
    STRING = auto()
    WORD = auto()
    ENDED = auto()


class JsonFragments:
    """Releases the text of one object: strings as they grow, keys, numbers and brackets with the next value."""

    def __init__(self) -> None:
        self._state = _State.BETWEEN
        self._closers: list[str] = []
        self._key_expected = False
        self._held: list[str] = []
        self._partial = ""

    def feed(self, text: str) -> str:
        """Add text and return the next fragment, which may be empty."""
        text, self._partial = self._partial + text, ""
        released: list[str] = []
        start = at = 0

        def release(end: int) -> int:
            released.extend(self._held)
            self._held.clear()
            released.append(text[start:end])
            return end

        while at < len(text) and self._state is not _State.ENDED:
            match self._state:
                case _State.STRING:
                    at = start = release(_end(_STRING_TEXT, text, at))
                    if text[at : at + 1] != '"':
                        break
                    at = start = release(at + 1)
                    self._state = _State.BETWEEN
                case _State.KEY:
                    at = _end(_KEY_TEXT, text, at)
                    if text[at : at + 1] != '"':
                        break
                    at += 1
                    self._state = _State.BETWEEN
                case _State.WORD:
                    at = _end(_WORD, text, at)
                    if at < len(text):
                        start = release(at)
                        self._state = _State.BETWEEN
                case _:
                    at = _end(_BETWEEN, text, at)
                    char = text[at : at + 1]
                    if char in _CLOSERS:
                        self._closers.append(_CLOSERS[char])
                        self._key_expected = char == "{"
                        at += 1
                    elif char in ("}", "]"):
                        self._closers.pop()
                        at = start = release(at + 1)
                        self._key_expected = False
                        if not self._closers:
                            self._state = _State.ENDED
                    elif char == ",":
                        self._key_expected = self._closers[-1] == "}"
                        at += 1
                    elif char == '"' and self._key_expected:
                        self._key_expected = False
                        self._state = _State.KEY
                        at += 1
                    elif char == '"':
                        at = start = release(at + 1)
                        self._state = _State.STRING
                    elif char:
                        self._state = _State.WORD
        if self._state is not _State.ENDED:
            self._held.append(text[start:at])
            self._partial = text[at:]
        return "".join(released)

    def completion(self) -> str:
        """Return what completes the text so far, if it ends like a fragment."""
        return '"' * (self._state is _State.STRING) + "".join(reversed(self._closers))


class JsonStringFragments:
    """Releases the text of a JSON string with its opening quotation mark, up to an invalid character."""

    def __init__(self) -> None:
        self._opened = False
        self._partial = ""
        self._failed = False

    def feed(self, text: str) -> str:
        """Add text and return the next fragment, which may be empty."""
        if self._failed:
            return ""
        text = self._partial + text
        at = 0 if self._opened else 1
        end = _end(_STRING_TEXT, text, at)
        self._opened = True
        self._partial = text[end:]
        # The longest incomplete escape is that of a surrogate pair.
        self._failed = bool(self._partial) and (self._partial[0] != "\\" or len(self._partial) > 12)
        return text[:end]


class TextFragments:
    """Converts text to the inside of a JSON string as it grows.

    Newlines at the end are held back, because they may belong to the markup around the text. With `trim` one newline
    at the beginning is dropped.
    """

    def __init__(self, *, trim: bool) -> None:
        self._trim = trim
        self._held = ""

    def feed(self, text: str) -> str:
        """Add text and return the next fragment, which may be empty."""
        if self._trim and text:
            self._trim = False
            text = text.removeprefix("\n")
        text = self._held + text
        held = min(len(text) - len(text.rstrip("\n")), 2)
        self._held = text[len(text) - held :]
        return json_string(text[: len(text) - held])[1:-1]


def completion(text: str) -> str:
    """Return what completes JSON text that ends like a fragment of JsonFragments."""
    fragments = JsonFragments()
    fragments.feed(text)
    return fragments.completion()


def without_spaces(text: str) -> str:
    """Return the beginning of JSON text without whitespace between its tokens."""
    return _SPACE_OR_STRING.sub(lambda found: found[1] or "", text)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at

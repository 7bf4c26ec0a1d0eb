"""Incremental detokenization: token ids to text, whole characters only."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
SPACE = "\u2581"
INCOMPLETE = "\ufffd"
# The maximum number of bytes of a character, each of which may be a token.
MAX_PENDING = 4


class Detokenizer(Protocol):
    """The text of one output: `add` returns the characters that a token completes, `finish` the rest."""

    def add(self, token: int) -> str: ...

    def finish(self) -> str: ...


@dataclass(frozen=True)
class ByteTable:
    """The bytes of every token; with `drop_first_space`, the first space of a text is an artefact of the vocabulary."""

    tokens: Sequence[bytes]
    drop_first_space: bool = False

    def __getitem__(self, token: int) -> bytes:
        # A model's output layer may be padded beyond the tokenizer's vocabulary.
        return self.tokens[token] if token < len(self.tokens) else b""


def byte_table(symbols: Sequence[str], added: set[int], decoder: Mapping[str, Any]) -> ByteTable | None:
    """Derive the bytes of a vocabulary from the decoder in its tokenizer.json; None for unknown decoders."""
    kind = decoder.get("type")
    if kind == "ByteLevel":
        to_byte = {char: byte for byte, char in enumerate(_byte_level_alphabet())}
        return ByteTable([_byte_level(s, i in added, to_byte) for i, s in enumerate(symbols)])
    if kind == "Metaspace":
        table = [s.encode() if i in added else s.replace(SPACE, " ").encode() for i, s in enumerate(symbols)]
        return ByteTable(table, drop_first_space=decoder.get("prepend_scheme") != "never")
    if kind == "Sequence":
        parts = decoder["decoders"]
        kinds = [part["type"] for part in parts]
        if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and kinds[3:] in ([], ["Strip"]):
            return ByteTable([_byte_fallback(s, i in added) for i, s in enumerate(symbols)], kinds[3:] == ["Strip"])
    return None


def _byte_level_alphabet() -> list[str]:
    """The characters that byte-level BPE uses for the bytes 0 to 255; printable ones represent themselves."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    substitutes = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(substitutes)) for byte in range(256)]


def _byte_level(symbol: str, is_added: bool, to_byte: Mapping[str, int]) -> bytes:
    if is_added or not all(char in to_byte for char in symbol):
        return symbol.encode()
    return bytes(to_byte[char] for char in symbol)


def _byte_fallback(symbol: str, is_added: bool) -> bytes:
    if is_added:
        return symbol.encode()
    if byte := BYTE_TOKEN.fullmatch(symbol):
        return bytes([int(byte[1], 16)])
    return symbol.replace(SPACE, " ").encode()


class ByteDetokenizer:
    """Decodes UTF-8 incrementally, for tokenizers whose tokens are bytes; `starts` if no text precedes it."""

    def __init__(self, table: ByteTable, *, starts: bool = True) -> None:
        self._table = table
        self._drop_space = starts and table.drop_first_space
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        return self._emit(self._utf8.decode(self._table[token]))

    def finish(self) -> str:
        return self._emit(self._utf8.decode(b"", final=True))

    def _emit(self, text: str) -> str:
        if self._drop_space and text:
            self._drop_space = False
            return text.removeprefix(" ")
        return text


class WindowDetokenizer:
    """Decodes the last few tokens again with each token, for all other tokenizers."""

    def __init__(self, decode: Callable[[Sequence[int]], str], context: Sequence[int] = ()) -> None:
        self._decode = decode
        # `_context` tokens were emitted already; they stay because decoders may treat the first token specially.
        self._context: list[int] = list(context)
        self._pending: list[int] = []

    def add(self, token: int) -> str:
        self._pending.append(token)
        text = self._text()
        # A text that still ends with U+FFFD then contains it.
        is_incomplete = text.endswith(INCOMPLETE) and len(self._pending) < MAX_PENDING
        return "" if not text or is_incomplete else self._emit(text)

    def finish(self) -> str:
        return self._emit(self._text())

    def _text(self) -> str:
        before = self._decode(self._context) if self._context else ""
        return self._decode(self._context + self._pending)[len(before) :]

    def _emit(self, text: str) -> str:
        self._context, self._pending = self._pending, []
        return text

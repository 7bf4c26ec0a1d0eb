"""Keeps the caches of past prompts and answers, so that a conversation's next turn reads only what is new."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host_lm.mlx_lm_api import Layers, Snapshot, nbytes, trimmed

TOKEN_BYTES = array("i").itemsize

# Of a small model, a budget of bytes would hold more sequences than can be compared with a prompt in no time.
MOST_ENTRIES = 256


@dataclass(frozen=True, eq=False)
class Entry:
    """A cached sequence; `key` holds its tokens as bytes because those compare at the speed of memory."""

    key: bytes
    layers: Layers
    nbytes: int

    def __len__(self) -> int:
        return len(self.key) // TOKEN_BYTES


class PromptCache:
    """Past sequences within a budget of bytes, least recently used first to go.

    `trimmable` says that a sequence's beginning can be had from the whole; otherwise an entry serves only prompts that
    begin with all of it. Entries are compared one by one: there are tens of them, and a trie of tokens costs more.
    """

    def __init__(self, *, trimmable: bool) -> None:
        self._trimmable = trimmable
        self._entries: list[Entry] = []
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def longest_prefix(self, tokens: Sequence[int]) -> Snapshot | None:
        """The most of `tokens` that is cached, at most all but the last: that one must be computed to go on from."""
        key = _key(tokens[:-1])
        best: tuple[int, Entry] | None = None
        for entry in self._entries:
            shared = common_prefix(key, entry.key)
            usable = shared if self._trimmable or shared == len(entry) else 0
            if usable > (best[0] if best else 0):
                best = usable, entry
        if best is None:
            return None
        length, entry = best
        self._entries.remove(entry)
        self._entries.append(entry)
        extra = len(entry) - length
        return Snapshot(list(tokens[:length]), trimmed(entry.layers, extra) if extra else entry.layers)

    def put(self, snapshot: Snapshot) -> None:
        """Keep a sequence, in place of those that it makes superfluous."""
        key = _key(snapshot.tokens)
        if self._trimmable and any(entry.key.startswith(key) for entry in self._entries):
            return
        for superfluous in [entry for entry in self._entries if self._covers(key, entry)]:
            self._drop(superfluous)
        self._entries.append(Entry(key, snapshot.layers, nbytes(snapshot.layers)))
        self._nbytes += self._entries[-1].nbytes

    def shrink(self, budget: int) -> None:
        """Forget the least recently used sequences until the rest fits into `budget` bytes and MOST_ENTRIES."""
        while self._entries and (self._nbytes > budget or len(self._entries) > MOST_ENTRIES):
            self._drop(self._entries[0])

    def clear(self) -> None:
        self._entries.clear()
        self._nbytes = 0

    def _drop(self, entry: Entry) -> None:
        self._entries.remove(entry)
        self._nbytes -= entry.nbytes

    def _covers(self, key: bytes, entry: Entry) -> bool:
        return key == entry.key or (self._trimmable and key.startswith(entry.key))


def _key(tokens: Sequence[int]) -> bytes:
    return array("i", tokens).tobytes()


def common_prefix(first: bytes, second: bytes) -> int:
    """How many tokens two keys have in common at their start."""
    low, high = 0, min(len(first), len(second)) // TOKEN_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        start, end = low * TOKEN_BYTES, middle * TOKEN_BYTES
        if first[start:end] == second[start:end]:
            low = middle
        else:
            high = middle - 1
    return low

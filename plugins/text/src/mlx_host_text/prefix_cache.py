"""The prefix cache: caches of past prompts and outputs, so that a shared prefix is not prefilled again."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host_text.sequence import CacheOps, CacheSnapshot, KVCache

TOKEN_BYTES = array("i").itemsize

# With small models the budget in bytes would allow more sequences than can be compared with a prompt quickly.
MAX_ENTRIES = 256


@dataclass(frozen=True, eq=False)
class Entry:
    """A cached sequence; `key` is its tokens as bytes, which Python compares with memcmp."""

    key: bytes
    cache: KVCache
    nbytes: int

    def __len__(self) -> int:
        return len(self.key) // TOKEN_BYTES


class PrefixCache:
    """Past sequences within a budget of bytes; the least recently used are evicted first.

    If the caches can be trimmed, an entry serves every prompt that shares a prefix with it, otherwise only prompts that
    begin with all of it. Entries are compared one by one: with tens of them, that is faster than a trie of tokens.
    """

    def __init__(self, ops: CacheOps) -> None:
        self._ops = ops
        self._trimmable = ops.can_trim(ops.new())
        self._entries: list[Entry] = []
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        return self._nbytes

    @property
    def trimmable(self) -> bool:
        """Whether the cache of any prefix can be derived from the cache of the whole sequence."""
        return self._trimmable

    def cached_length(self, tokens: Sequence[int]) -> int:
        """The number of tokens that `longest_prefix` would return, without using the entry."""
        key = _key(tokens[:-1])
        return max((self._usable(key, entry) for entry in self._entries), default=0)

    def _usable(self, key: bytes, entry: Entry) -> int:
        shared = common_prefix(key, entry.key)
        return shared if self._trimmable or shared == len(entry) else 0

    def longest_prefix(self, tokens: Sequence[int]) -> CacheSnapshot | None:
        """The longest cached prefix of `tokens` without the last, which must be processed to predict the next token."""
        key = _key(tokens[:-1])
        best: tuple[int, Entry] | None = None
        for entry in self._entries:
            usable = self._usable(key, entry)
            if usable > (best[0] if best else 0):
                best = usable, entry
        if best is None:
            return None
        length, entry = best
        self._entries.remove(entry)
        self._entries.append(entry)
        extra = len(entry) - length
        return CacheSnapshot(list(tokens[:length]), self._ops.trim(entry.cache, extra) if extra else entry.cache)

    def put(self, snapshot: CacheSnapshot) -> None:
        """Add a sequence and drop the entries that it makes redundant."""
        key = _key(snapshot.tokens)
        if self._trimmable and any(entry.key.startswith(key) for entry in self._entries):
            return
        for redundant in [entry for entry in self._entries if self._covers(key, entry)]:
            self._drop(redundant)
        self._entries.append(Entry(key, snapshot.cache, self._ops.nbytes(snapshot.cache)))
        self._nbytes += self._entries[-1].nbytes

    def shrink(self, budget: int) -> None:
        """Evict the least recently used sequences until the rest fits into `budget` bytes and MAX_ENTRIES."""
        while self._entries and (self._nbytes > budget or len(self._entries) > MAX_ENTRIES):
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
    """The number of tokens that two keys have in common at their start."""
    low, high = 0, min(len(first), len(second)) // TOKEN_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        start, end = low * TOKEN_BYTES, middle * TOKEN_BYTES
        if first[start:end] == second[start:end]:
            low = middle
        else:
            high = middle - 1
    return low

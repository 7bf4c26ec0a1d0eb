"""Incremental search for fixed strings in text that arrives in chunks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


class LiteralMatcher:
    """A set of strings to search for. The leftmost match wins, and of those at one position the longest."""

    def __init__(self, literals: Iterable[str]) -> None:
        self.literals = tuple(sorted(set(literals), key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self.literals)) or "(?!)")
        self._prefixes = {literal[:n] for literal in self.literals for n in range(1, len(literal))}
        self._max_length = max(map(len, self.literals), default=0)

    def find(self, text: str, start: int, *, ended: bool) -> tuple[int, int]:
        """Return the span of the first match in `text` from the index `start`.

        If nothing matches, both indexes are equal: where a partial match at the end of `text` begins, or else its end.
        `ended` means that no more text follows, so that partial matches do not count.
        """
        match = self._pattern.search(text, start)
        if not ended:
            last = match.start() if match else len(text)
            for partial in range(max(start, len(text) - self._max_length + 1), min(last + 1, len(text))):
                if text[partial:] in self._prefixes:
                    return partial, partial
        return match.span() if match else (len(text), len(text))

    def match_at(self, text: str, start: int, *, ended: bool) -> tuple[str, bool]:
        """Return the string that matches exactly at `start`, or "", and whether more text may change the result."""
        rest = text[start : start + self._max_length]
        if self.literals and not ended and (not rest or rest in self._prefixes):
            return "", True
        return next((literal for literal in self.literals if rest.startswith(literal)), ""), False

    def partial_suffix_length(self, text: str) -> int:
        """Return the length of the longest suffix of `text` that is a proper prefix of one of the strings."""
        longest = min(self._max_length - 1, len(text))
        return next((n for n in range(longest, 0, -1) if text[len(text) - n :] in self._prefixes), 0)

    def replace(self, text: str, replacement: str) -> str:
        """Return `text` with `replacement` in place of each of the strings."""
        return self._pattern.sub(replacement, text)

    def is_proper_prefix(self, text: str) -> bool:
        """Return whether `text` begins one of the strings without being complete."""
        return text in self._prefixes


@lru_cache(maxsize=256)
def literal_matcher(*literals: str) -> LiteralMatcher:
    return LiteralMatcher(literals)

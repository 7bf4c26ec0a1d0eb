"""Finding fixed strings in text that is still arriving."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


class Literals:
    """A set of strings to look for; the leftmost wins, and of those that start together the longest."""

    def __init__(self, literals: Iterable[str]) -> None:
        self.all = tuple(sorted(set(literals), key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self.all)) or "(?!)")
        self._beginnings = {literal[:n] for literal in self.all for n in range(1, len(literal))}
        self._longest = max(map(len, self.all), default=0)

    def find(self, text: str, at: int, *, ended: bool) -> tuple[int, int]:
        """Return where the first one stands in `text`, counted from `at`.

        Nothing found gives two equal numbers: where the text begins that may still become one, or else the end.
        """
        match = self._pattern.search(text, at)
        if not ended:
            last = match.start() if match else len(text)
            for start in range(max(at, len(text) - self._longest + 1), min(last + 1, len(text))):
                if text[start:] in self._beginnings:
                    return start, start
        return match.span() if match else (len(text), len(text))

    def next(self, text: str, at: int, *, ended: bool) -> tuple[str, bool]:
        """Return the one that stands exactly at `at`, or "", and whether more text may change that."""
        rest = text[at : at + self._longest]
        if self.all and not ended and (not rest or rest in self._beginnings):
            return "", True
        return next((literal for literal in self.all if rest.startswith(literal)), ""), False

    def unfinished(self, text: str) -> int:
        """Return how many characters at the end of `text` are the beginning of one."""
        longest = min(self._longest - 1, len(text))
        return next((n for n in range(longest, 0, -1) if text[len(text) - n :] in self._beginnings), 0)

    def begins(self, text: str) -> bool:
        """Tell whether `text` is the beginning of one, but not all of it."""
        return text in self._beginnings


@lru_cache(maxsize=256)
def literals(*strings: str) -> Literals:
    return Literals(strings)

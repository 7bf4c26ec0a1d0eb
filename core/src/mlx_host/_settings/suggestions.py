"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Collection

# The minimum similarity of a suggestion, from 0 to 1.
CUTOFF = 0.6


def closest(name: str, known: Collection[str], preferred: Collection[str] = ()) -> str | None:
    """Return the known name with the smallest edit distance; None if none is similar.

    A name in `preferred`, such as a canonical one among aliases, may have one edit more than the others. Of equally
    close names, one with the same letters comes first.
    """
    similar = difflib.get_close_matches(name, known, n=max(len(known), 1), cutoff=CUTOFF)

    def rank(other: str) -> tuple[int, bool, bool, str]:
        is_other = bool(preferred) and other not in preferred
        return edit_distance(name, other) + is_other, is_other, sorted(name) != sorted(other), other

    return min(similar, key=rank, default=None)


def edit_distance(first: str, second: str) -> int:
    """Return the number of insertions, deletions, replacements and transpositions of adjacent characters.

    The optimal string alignment distance: no part is edited twice.
    """
    above: list[int] = []
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        above, last, row = row, above, [i]
        for j, b in enumerate(second, start=1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and b == first[i - 2]:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]

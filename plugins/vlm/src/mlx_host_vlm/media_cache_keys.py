"""Prefix-cache keys of prompts with images and audio."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

# Contents whose numbers are remembered; a content that was forgotten gets a new number.
MAX_REMEMBERED = 4096


class MediaCacheKeys:
    """Assigns a unique negative number to the content of each image and audio clip.

    Numbers, not hashes: a collision would expose one client's image to another.
    """

    def __init__(self, max_remembered: int = MAX_REMEMBERED) -> None:
        self._numbers: OrderedDict[tuple[bytes, ...], int] = OrderedDict()
        self._max_remembered = max_remembered
        self._last = 0

    def key(
        self, tokens: Sequence[int], placeholder_ids: Collection[int], digests: Sequence[bytes], *, separate: bool
    ) -> list[int] | None:
        """The tokens with the placeholders replaced by the numbers of the media's content.

        If the runs of adjacent media are `separate` and there is one run per medium, each run gets the number of its
        medium; otherwise all runs get one number for all media together. None without placeholders: the tokens then do
        not distinguish this prompt from one with other media.
        """
        runs = find_runs(tokens, placeholder_ids)
        if not runs:
            return None
        if separate and len(runs) == len(digests):
            numbers = [self._number((digest,)) for digest in digests]
        else:
            numbers = [self._number(tuple(digests))] * len(runs)
        key = list(tokens)
        for (start, end), number in zip(runs, numbers, strict=True):
            key[start:end] = [number] * (end - start)
        return key

    def _number(self, digests: tuple[bytes, ...]) -> int:
        if digests not in self._numbers:
            self._last -= 1
            self._numbers[digests] = self._last
            if len(self._numbers) > self._max_remembered:
                self._numbers.popitem(last=False)
        self._numbers.move_to_end(digests)
        return self._numbers[digests]


def find_runs(tokens: Sequence[int], placeholder_ids: Collection[int]) -> list[tuple[int, int]]:
    """The runs of equal placeholder tokens, as half-open ranges."""
    runs: list[tuple[int, int]] = []
    for position, token in enumerate(tokens):
        if token not in placeholder_ids:
            continue
        if runs and runs[-1][1] == position and tokens[position - 1] == token:
            runs[-1] = (runs[-1][0], position + 1)
        else:
            runs.append((position, position + 1))
    return runs

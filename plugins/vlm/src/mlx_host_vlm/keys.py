"""The keys under which the prompt cache knows prompts that hold more than text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

# Of so many pictures and sounds it is known that they came before; one that is forgotten gets a new number.
MOST_REMEMBERED = 4096


class MediaKeys:
    """Gives each picture or sound a number below 0, of which no other ever has the same."""

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._numbers: OrderedDict[tuple[bytes, ...], int] = OrderedDict()
        self._most = most
        self._last = 0

    def key(
        self, tokens: Sequence[int], places: Collection[int], digests: Sequence[bytes], *, apart: bool
    ) -> list[int] | None:
        """The tokens with those in `places`, which stand for media, replaced by the media's numbers.

        Where media stand `apart`, even next to each other, and there is one run for each, each run gets its own's
        number; else all get one number for all media together. None if there are no such tokens: then nothing tells
        this prompt from one with other media.
        """
        runs = find_runs(tokens, places)
        if not runs:
            return None
        if apart and len(runs) == len(digests):
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
            if len(self._numbers) > self._most:
                self._numbers.popitem(last=False)
        self._numbers.move_to_end(digests)
        return self._numbers[digests]


def find_runs(tokens: Sequence[int], places: Collection[int]) -> list[tuple[int, int]]:
    """Where the same token of `places` stands several times in a row, as half-open ranges."""
    runs: list[tuple[int, int]] = []
    for position, token in enumerate(tokens):
        if token not in places:
            continue
        if runs and runs[-1][1] == position and tokens[position - 1] == token:
            runs[-1] = (runs[-1][0], position + 1)
        else:
            runs.append((position, position + 1))
    return runs

"""Text that counts copying, for tests of quadratic concatenation."""

from __future__ import annotations


class CountedText(str):
    """A str whose concatenations add to `copied`, in characters; set it to 0 before use."""

    copied = 0

    def __add__(self, other: str) -> CountedText:
        CountedText.copied += len(self) + len(other)
        return CountedText(str(self) + str(other))

    def __radd__(self, other: str) -> CountedText:
        CountedText.copied += len(self) + len(other)
        return CountedText(str(other) + str(self))

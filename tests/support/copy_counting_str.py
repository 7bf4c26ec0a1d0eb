"""A str that counts copied characters, for tests of quadratic concatenation."""

from __future__ import annotations


class CopyCountingStr(str):
    """A str whose concatenations add the number of copied characters to `copied`; set it to 0 before use."""

    copied = 0

    def __add__(self, other: str) -> CopyCountingStr:
        CopyCountingStr.copied += len(self) + len(other)
        return CopyCountingStr(str(self) + str(other))

    def __radd__(self, other: str) -> CopyCountingStr:
        CopyCountingStr.copied += len(self) + len(other)
        return CopyCountingStr(str(other) + str(self))

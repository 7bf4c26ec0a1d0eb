"""What truncation "auto" removes from a conversation."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_host._apis.responses.truncation import without_oldest

# Roles by their first letters; messages differ in size only by the length of the role.
ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def conversation(roles: str) -> list[dict[str, str]]:
    return [{"role": ROLES[role], "content": f"{number:03}" + "x" * 1000} for number, role in enumerate(roles)]


@pytest.mark.parametrize(
    ("roles", "share", "left"),
    [
        ("suauau", 0.01, [0, 3, 4, 5]),
        ("suauau", 0.5, [0, 5]),
        ("suauau", 0.99, [0, 5]),
        ("uatatuau", 0.1, [5, 6, 7]),
        ("ssuau", 0.1, [0, 1, 4]),
        ("auau", 0.1, [1, 2, 3]),
        ("usau", 0.1, [3]),
        ("su", 0.1, None),
        ("suatat", 0.1, None),
        ("s", 0.1, None),
    ],
)
def test_the_oldest_turns_are_removed(roles: str, share: float, left: list[int] | None) -> None:
    messages = conversation(roles)
    shorter = without_oldest(messages, share)
    assert (None if shorter is None else [messages.index(dict(message)) for message in shorter]) == left


class CountedSize(int):
    """A size that counts additions."""

    additions = 0

    def __add__(self, other: int) -> CountedSize:
        CountedSize.additions += 1
        return CountedSize(int(self) + int(other))

    __radd__ = __add__


def test_sizes_are_added_a_few_times_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountedSize, "additions", 0)
    messages: list[Any] = conversation("s" + "ua" * 1000)
    shorter = without_oldest(messages, 0.9, lambda message: CountedSize(1000))
    assert shorter is not None
    assert len(shorter) == 199
    assert CountedSize.additions <= 3 * len(messages)

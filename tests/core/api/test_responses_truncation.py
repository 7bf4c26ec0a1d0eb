"""What truncation "auto" leaves out of a conversation."""

from __future__ import annotations

import pytest
from mlx_host._apis.responses.truncation import without_oldest

# Roles by their first letters; every message is of the same size, up to the length of its role.
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
def test_turns_are_left_out_from_the_oldest_on(roles: str, share: float, left: list[int] | None) -> None:
    messages = conversation(roles)
    shorter = without_oldest(messages, share)
    assert (None if shorter is None else [messages.index(dict(message)) for message in shorter]) == left

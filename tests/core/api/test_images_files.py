"""Pictures are kept for a while, and no more of them than fit."""

from __future__ import annotations

import pytest
from mlx_host._apis.images.store import FileNotFound, Files


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def gone(files: Files, name: str) -> bool:
    try:
        files.get(name)
    except FileNotFound:
        return True
    return False


def test_a_picture_is_given_back(clock: Clock) -> None:
    files = Files(100, 10, clock)
    names = [files.keep(content, "webp") for content in (b"one", b"two")]
    assert [files.get(name).content for name in names] == [b"one", b"two"]
    assert files.get(names[0]).media_type == "image/webp"
    assert names[0] != names[1]
    assert names[0].endswith(".webp")
    assert gone(files, "another.webp")


def test_a_picture_expires(clock: Clock) -> None:
    files = Files(100, 10, clock)
    first = files.keep(b"one", "png")
    clock.now = 6
    second = files.keep(b"two", "png")
    clock.now = 10
    assert (gone(files, first), gone(files, second)) == (True, False)
    clock.now = 16
    assert gone(files, second)


def test_the_oldest_make_room(clock: Clock) -> None:
    files = Files(100, 10, clock)
    names = [files.keep(bytes(40), "png") for _ in range(3)]
    assert [gone(files, name) for name in names] == [True, False, False]
    large = files.keep(bytes(101), "png")
    assert all(gone(files, name) for name in [*names, large])
    assert not gone(files, files.keep(bytes(100), "png"))


def test_a_picture_that_is_dropped_makes_room(clock: Clock) -> None:
    files = Files(100, 10, clock)
    first, second = (files.keep(bytes(50), "png") for _ in range(2))
    files.drop(first)
    files.drop(first)
    files.keep(bytes(50), "png")
    assert (gone(files, first), gone(files, second)) == (True, False)

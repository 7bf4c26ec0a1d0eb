"""The image store: lookup, expiry and eviction."""

from __future__ import annotations

import pytest
from mlx_host._apis.images.store import ImageNotFoundError, ImageStore


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def has(store: ImageStore, name: str) -> bool:
    try:
        store.get(name)
    except ImageNotFoundError:
        return False
    return True


def test_an_image_is_returned_by_name(clock: Clock) -> None:
    store = ImageStore(100, 10, clock)
    names = [store.add(content, "webp") for content in (b"one", b"two")]
    assert [store.get(name).content for name in names] == [b"one", b"two"]
    assert store.get(names[0]).media_type == "image/webp"
    assert names[0] != names[1]
    assert names[0].endswith(".webp")
    assert not has(store, "another.webp")


def test_an_image_expires(clock: Clock) -> None:
    store = ImageStore(100, 10, clock)
    first = store.add(b"one", "png")
    clock.now = 6
    second = store.add(b"two", "png")
    clock.now = 10
    assert (has(store, first), has(store, second)) == (False, True)
    clock.now = 16
    assert not has(store, second)


def test_the_oldest_images_are_evicted(clock: Clock) -> None:
    store = ImageStore(100, 10, clock)
    names = [store.add(bytes(40), "png") for _ in range(3)]
    assert [has(store, name) for name in names] == [False, True, True]
    large = store.add(bytes(101), "png")
    assert not any(has(store, name) for name in [*names, large])
    assert has(store, store.add(bytes(100), "png"))


def test_deleting_an_image_frees_its_size(clock: Clock) -> None:
    store = ImageStore(100, 10, clock)
    first, second = (store.add(bytes(50), "png") for _ in range(2))
    store.delete(first)
    store.delete(first)
    store.add(bytes(50), "png")
    assert (has(store, first), has(store, second)) == (False, True)

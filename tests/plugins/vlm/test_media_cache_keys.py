"""Prompts with different media have different prefix-cache keys."""

from __future__ import annotations

import pytest
from mlx_host_vlm.media_cache_keys import MediaCacheKeys, find_runs


def key(keys: MediaCacheKeys, tokens: list[int], *digests: bytes, separate: bool = True) -> list[int] | None:
    return keys.key(tokens, {9}, digests, separate=separate)


def test_runs_are_found() -> None:
    assert find_runs([1, 9, 9, 2, 9, 8, 8], {8, 9}) == [(1, 3), (4, 5), (5, 7)]


def test_each_run_gets_the_number_of_its_medium() -> None:
    cache_keys = MediaCacheKeys()
    assert key(cache_keys, [1, 9, 9, 2, 9], b"a", b"b") == [1, -1, -1, 2, -2]
    assert key(cache_keys, [1, 9, 9, 2, 9, 3], b"a", b"c") == [1, -1, -1, 2, -3, 3]


@pytest.mark.parametrize(("tokens", "separate"), [([9, 9, 1], True), ([9, 1, 9], False)])
def test_runs_that_are_not_separate_share_one_number(tokens: list[int], separate: bool) -> None:
    cache_keys = MediaCacheKeys()
    together = key(cache_keys, tokens, b"a", b"b", separate=separate)
    assert together == [-1 if token == 9 else token for token in tokens]
    assert key(cache_keys, tokens, b"b", b"a", separate=separate) != together
    assert key(cache_keys, tokens, b"a", b"b", separate=separate) == together


def test_a_prompt_without_placeholders_has_no_key() -> None:
    assert key(MediaCacheKeys(), [1, 2], b"a") is None


def test_an_evicted_number_is_never_reassigned() -> None:
    cache_keys = MediaCacheKeys(max_remembered=2)
    assigned = [key(cache_keys, [9], bytes([number])) for number in (1, 2, 3, 1, 3)]
    assert assigned == [[-1], [-2], [-3], [-4], [-3]]

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest
from mlx_host.requests import Json
from mlx_host_lm.mlx_lm_api import LmCacheOps
from mlx_host_text.model import TextModel
from mlx_host_text.prefix_cache import PrefixCache
from mlx_host_text.sequence import CacheSnapshot
from mlx_lm.models.cache import KVCache
from mlx_lm.utils import load as load_network

from tests.plugins.lm.driver import Round, answer, answer_one, ask, load
from tests.plugins.text.templates import THINKS

KINDS = ["tiny_llama", "tiny_sliding", "tiny_lfm2"]
RAIN = "Rain. " * 360
LONG = "The river runs past the mill and under the old bridge. " * 60


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def conversation(*turns: str) -> list[Json]:
    return [{"role": "assistant" if i % 2 else "user", "content": turn} for i, turn in enumerate(turns)]


class TestAnswers:
    def test_are_the_same_with_and_without_the_cache(self, folder: Path) -> None:
        cached, uncached = load(folder), load(folder, prompt_cache_bytes=0)
        turns: list[str] = []
        reused = []
        for question in (LONG, "And then?", "Say it again.", LONG):
            turns.append(question)
            with_cache = answer_one(cached, ask(conversation(*turns), max_tokens=24))
            without = answer_one(uncached, ask(conversation(*turns), max_tokens=24))
            assert with_cache.text == without.text
            assert without.cached_tokens == 0
            reused.append(with_cache.cached_tokens)
            turns.append(with_cache.text)
        assert reused[0] == 0
        assert min(reused[1:]) > 600

    def test_of_a_second_turn_need_only_the_new_part_read(self, folder: Path) -> None:
        model = load(folder)
        first = answer_one(model, ask(conversation(LONG)))
        assert first.prompt_tokens > 700
        second = answer_one(model, ask(conversation(LONG, first.text, "Why?")))
        new = second.prompt_tokens - first.prompt_tokens
        assert second.cached_tokens >= first.prompt_tokens - 10
        assert second.prefilled[0].done > second.cached_tokens
        assert second.prompt_tokens - second.cached_tokens <= new + 10

    def test_need_little_read_where_the_history_is_not_what_was_generated(self, folder: Path, tmp_path: Path) -> None:
        template = tmp_path / "thinks.jinja"
        template.write_text(THINKS, encoding="utf-8")
        model = load(folder, chat_template_file=template)
        first = answer_one(model, ask(conversation(LONG)))
        assert first.started is not None
        assert first.started.generation_prompt == "<|im_start|>assistant\n<think>\n"
        second = answer_one(model, ask(conversation(LONG, "without the thinking", "Why?")))
        assert second.cached_tokens >= first.prompt_tokens - 8  # the header

    def test_repeat_when_the_whole_prompt_is_cached(self, folder: Path) -> None:
        model = load(folder)
        answers = [answer_one(model, ask(LONG)) for _ in range(3)]
        assert len({each.text for each in answers}) == 1
        assert answers[0].cached_tokens == 0
        for each in answers[1:]:
            assert 600 < each.cached_tokens < each.prompt_tokens

    def test_branch_from_one_cached_prompt_together(self, folder: Path) -> None:
        model, uncached = load(folder), load(folder, prompt_cache_bytes=0)
        first = answer_one(model, ask(LONG)).text
        requests = [ask(conversation(LONG, first, question)) for question in ("Why?", "Where?", "When, and how?")]
        together = answer(model, *requests)
        assert all(each.cached_tokens > 600 for each in together)
        assert [each.text for each in together] == [answer_one(uncached, each).text for each in requests]

    def test_are_not_poisoned_by_a_cancelled_request(self, folder: Path) -> None:
        model, uncached = load(folder, prefill_step_size=64), load(folder, prompt_cache_bytes=0)
        for turns in range(1, 16, 2):
            running = Round(model)
            cancelled = running.join(ask(conversation(LONG)))
            for _ in range(turns):
                running.turn()
            running.leave(cancelled)
        for messages in (conversation(LONG), conversation(LONG, "No.", "Why?"), conversation(LONG + LONG)):
            assert answer_one(model, ask(messages)).text == answer_one(uncached, ask(messages)).text

    def test_several_to_one_cached_prompt(self, folder: Path) -> None:
        model = load(folder)
        one = answer_one(model, ask(LONG)).text
        three = answer_one(model, ask(LONG, n=3))
        assert three.cached_tokens > 600
        assert set(three.texts.values()) == {one}


def test_a_concurrent_request_profits_before_the_first_is_done(model: TextModel) -> None:
    running = Round(model)
    first = running.join(ask(LONG, max_tokens=40))
    while not first.pieces:
        running.turn()
    second = running.join(ask(LONG + "And?", max_tokens=4))
    running.finish()
    assert second.cached_tokens > 600


def test_nothing_is_kept_without_a_budget(tiny_llama: Path) -> None:
    model = load(tiny_llama, prompt_cache_bytes=0)
    assert [answer_one(model, ask(LONG)).cached_tokens for _ in range(2)] == [0, 0]


def test_a_budget_that_is_too_small_keeps_nothing(tiny_llama: Path) -> None:
    model = load(tiny_llama, prompt_cache_bytes=1000)
    assert [answer_one(model, ask(LONG)).cached_tokens for _ in range(2)] == [0, 0]


def test_running_rows_count_against_the_budget(tiny_llama: Path) -> None:
    # Keys and values of 2 layers and 2 heads of 16 float32: 512 bytes a token. LONG and RAIN are of a length, and both
    # fit; but not while RAIN's rows take as much again.
    length = answer_one(load(tiny_llama), ask(RAIN, max_tokens=2)).prompt_tokens
    for lengths, kept in ((4.5, True), (2.5, False)):
        model = load(tiny_llama, prompt_cache_bytes=int(lengths * length * 512))
        for prompt in (LONG, RAIN):
            answer_one(model, ask(prompt, max_tokens=2))
        assert (answer_one(model, ask(LONG, max_tokens=2)).cached_tokens > 600) == kept


def prefix_cache(folder: Path) -> PrefixCache:
    return PrefixCache(LmCacheOps(load_network(str(folder))[0]))


@pytest.fixture
def cache(tiny_llama: Path) -> PrefixCache:
    """The cache of a model whose caches can be trimmed."""
    return prefix_cache(tiny_llama)


class TestPrefixCache:
    """The cache itself, over layers whose sizes are known."""

    @staticmethod
    def snapshot(*tokens: int) -> CacheSnapshot:
        layer = KVCache()
        keys = mx.array(tokens, dtype=mx.float32).reshape(1, 1, -1, 1)
        layer.update_and_fetch(keys, keys)
        return CacheSnapshot(list(tokens), [layer])

    @staticmethod
    def held(snapshot: CacheSnapshot | None) -> list[int]:
        assert snapshot is not None
        (layer,) = snapshot.cache
        keys, _ = layer.keys_and_values()
        assert keys.flatten().tolist() == snapshot.tokens
        return snapshot.tokens

    def test_finds_the_longest_beginning(self, cache: PrefixCache) -> None:
        cache.put(self.snapshot(1, 2, 3))
        cache.put(self.snapshot(1, 2, 9, 9, 9))
        assert self.held(cache.longest_prefix([1, 2, 3, 4])) == [1, 2, 3]
        assert self.held(cache.longest_prefix([1, 2, 9, 9, 8])) == [1, 2, 9, 9]
        assert cache.longest_prefix([7, 1, 2, 3]) is None
        assert cache.longest_prefix([1]) is None

    def test_leaves_the_last_token_to_be_computed(self, cache: PrefixCache) -> None:
        cache.put(self.snapshot(1, 2, 3))
        assert self.held(cache.longest_prefix([1, 2, 3])) == [1, 2]

    def test_cutting_leaves_the_entry_whole(self, cache: PrefixCache) -> None:
        cache.put(self.snapshot(1, 2, 3, 4))
        (layer,) = (cache.longest_prefix([1, 2, 7]) or self.snapshot()).cache
        layer.update_and_fetch(mx.full((1, 1, 1, 1), 5.0), mx.full((1, 1, 1, 1), 5.0))
        assert self.held(cache.longest_prefix([1, 2, 3, 4, 5])) == [1, 2, 3, 4]

    def test_what_cannot_be_cut_serves_whole_or_not_at_all(self, tiny_sliding: Path) -> None:
        cache = prefix_cache(tiny_sliding)
        cache.put(self.snapshot(1, 2, 3, 4))
        cache.put(self.snapshot(1, 2))
        assert len(cache) == 2
        assert self.held(cache.longest_prefix([1, 2, 3, 9])) == [1, 2]
        assert self.held(cache.longest_prefix([1, 2, 3, 4, 9])) == [1, 2, 3, 4]
        assert self.held(cache.longest_prefix([1, 2, 3, 4])) == [1, 2]

    def test_a_longer_sequence_replaces_its_beginnings(self, cache: PrefixCache) -> None:
        cache.put(self.snapshot(1, 2))
        cache.put(self.snapshot(1, 2, 3))
        cache.put(self.snapshot(1, 2))
        assert len(cache) == 1

    def test_forgets_the_least_recently_used_first(self, cache: PrefixCache) -> None:
        for first in (1, 2, 3):
            cache.put(self.snapshot(first, 0))
        cache.longest_prefix([1, 0, 0])
        cache.shrink(cache.nbytes - 1)
        assert cache.longest_prefix([2, 0, 0]) is None
        assert cache.longest_prefix([1, 0, 0]) is not None
        cache.shrink(0)
        assert (len(cache), cache.nbytes) == (0, 0)

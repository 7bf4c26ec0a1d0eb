from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest
from mlx_host.requests import Json
from mlx_host_lm.mlx_lm_api import cache_ops
from mlx_host_text.model import TextModel
from mlx_host_text.prefix_cache import PrefixCache
from mlx_host_text.sequence import CacheSnapshot
from mlx_lm.models.cache import KVCache
from mlx_lm.utils import load as load_network

from tests.plugins.lm.driver import EngineLoop, chat_request, generate, generate_one, load
from tests.plugins.text.templates import OPENS_REASONING

KINDS = ["tiny_llama", "tiny_sliding", "tiny_lfm2"]
RAIN = "Rain. " * 360
LONG = "The river runs past the mill and under the old bridge. " * 60


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def conversation(*turns: str) -> list[Json]:
    return [{"role": "assistant" if i % 2 else "user", "content": turn} for i, turn in enumerate(turns)]


class TestOutput:
    def test_is_the_same_with_and_without_the_cache(self, folder: Path) -> None:
        cached, uncached = load(folder), load(folder, prompt_cache_bytes=0)
        turns: list[str] = []
        reused = []
        for question in (LONG, "And then?", "Say it again.", LONG):
            turns.append(question)
            with_cache = generate_one(cached, chat_request(conversation(*turns), max_tokens=24))
            without = generate_one(uncached, chat_request(conversation(*turns), max_tokens=24))
            assert with_cache.text == without.text
            assert without.cached_tokens == 0
            reused.append(with_cache.cached_tokens)
            turns.append(with_cache.text)
        assert reused[0] == 0
        assert min(reused[1:]) > 600

    def test_of_the_next_turn_needs_prefill_of_the_new_part_only(self, folder: Path) -> None:
        model = load(folder)
        first = generate_one(model, chat_request(conversation(LONG)))
        assert first.prompt_tokens > 700
        second = generate_one(model, chat_request(conversation(LONG, first.text, "Why?")))
        new = second.prompt_tokens - first.prompt_tokens
        assert second.cached_tokens >= first.prompt_tokens - 10
        assert second.prefill_progress[0].done > second.cached_tokens
        assert second.prompt_tokens - second.cached_tokens <= new + 10

    def test_reuses_the_prompt_if_the_history_omits_the_reasoning(self, folder: Path, tmp_path: Path) -> None:
        template = tmp_path / "reasoning.jinja"
        template.write_text(OPENS_REASONING, encoding="utf-8")
        model = load(folder, chat_template_file=template)
        first = generate_one(model, chat_request(conversation(LONG)))
        assert first.started is not None
        assert first.started.generation_prompt == "<|im_start|>assistant\n<think>\n"
        second = generate_one(model, chat_request(conversation(LONG, "without the thinking", "Why?")))
        assert second.cached_tokens >= first.prompt_tokens - 8  # the header

    def test_repeats_if_the_whole_prompt_is_cached(self, folder: Path) -> None:
        model = load(folder)
        outputs = [generate_one(model, chat_request(LONG)) for _ in range(3)]
        assert len({each.text for each in outputs}) == 1
        assert outputs[0].cached_tokens == 0
        for each in outputs[1:]:
            assert 600 < each.cached_tokens < each.prompt_tokens

    def test_of_requests_that_share_a_cached_prompt_is_unchanged(self, folder: Path) -> None:
        model, uncached = load(folder), load(folder, prompt_cache_bytes=0)
        first = generate_one(model, chat_request(LONG)).text
        requests = [
            chat_request(conversation(LONG, first, question)) for question in ("Why?", "Where?", "When, and how?")
        ]
        together = generate(model, *requests)
        assert all(each.cached_tokens > 600 for each in together)
        assert [each.text for each in together] == [generate_one(uncached, each).text for each in requests]

    def test_is_not_affected_by_a_cancelled_request(self, folder: Path) -> None:
        model, uncached = load(folder, prefill_step_size=64), load(folder, prompt_cache_bytes=0)
        for turns in range(1, 16, 2):
            loop = EngineLoop(model)
            cancelled = loop.add(chat_request(conversation(LONG)))
            for _ in range(turns):
                loop.step()
            loop.cancel(cancelled)
        for messages in (conversation(LONG), conversation(LONG, "No.", "Why?"), conversation(LONG + LONG)):
            assert (
                generate_one(model, chat_request(messages)).text == generate_one(uncached, chat_request(messages)).text
            )

    def test_of_several_choices_shares_the_cached_prompt(self, folder: Path) -> None:
        model = load(folder)
        one = generate_one(model, chat_request(LONG)).text
        three = generate_one(model, chat_request(LONG, n=3))
        assert three.cached_tokens > 600
        assert set(three.texts.values()) == {one}


def test_a_prompt_is_reused_while_its_request_is_running(model: TextModel) -> None:
    loop = EngineLoop(model)
    first = loop.add(chat_request(LONG, max_tokens=40))
    while not first.deltas:
        loop.step()
    second = loop.add(chat_request(LONG + "And?", max_tokens=4))
    loop.run()
    assert second.cached_tokens > 600


def test_a_budget_of_zero_disables_the_cache(tiny_llama: Path) -> None:
    model = load(tiny_llama, prompt_cache_bytes=0)
    assert [generate_one(model, chat_request(LONG)).cached_tokens for _ in range(2)] == [0, 0]


def test_a_prompt_above_the_budget_is_not_cached(tiny_llama: Path) -> None:
    model = load(tiny_llama, prompt_cache_bytes=1000)
    assert [generate_one(model, chat_request(LONG)).cached_tokens for _ in range(2)] == [0, 0]


def test_running_sequences_count_towards_the_budget(tiny_llama: Path) -> None:
    # Keys and values of 2 layers with 2 heads of 16 float32: 512 bytes per token. LONG and RAIN have similar lengths;
    # with the smaller budget, LONG is evicted while RAIN is running.
    length = generate_one(load(tiny_llama), chat_request(RAIN, max_tokens=2)).prompt_tokens
    for lengths, cached in ((4.5, True), (2.5, False)):
        model = load(tiny_llama, prompt_cache_bytes=int(lengths * length * 512))
        for prompt in (LONG, RAIN):
            generate_one(model, chat_request(prompt, max_tokens=2))
        assert (generate_one(model, chat_request(LONG, max_tokens=2)).cached_tokens > 600) == cached


def prefix_cache(folder: Path) -> PrefixCache:
    return PrefixCache(cache_ops(load_network(str(folder))[0]))


@pytest.fixture
def cache(tiny_llama: Path) -> PrefixCache:
    """The cache of a model whose caches can be trimmed."""
    return prefix_cache(tiny_llama)


class TestPrefixCache:
    """The cache alone, with small caches as entries."""

    @staticmethod
    def snapshot(*tokens: int) -> CacheSnapshot:
        layer = KVCache()
        keys = mx.array(tokens, dtype=mx.float32).reshape(1, 1, -1, 1)
        layer.update_and_fetch(keys, keys)
        return CacheSnapshot(list(tokens), [layer])

    @staticmethod
    def tokens(snapshot: CacheSnapshot | None) -> list[int]:
        assert snapshot is not None
        (layer,) = snapshot.cache
        keys, _ = layer.keys_and_values()
        assert keys.flatten().tolist() == snapshot.tokens
        return snapshot.tokens

    def test_finds_the_longest_prefix(self, cache: PrefixCache) -> None:
        cache.put(self.snapshot(1, 2, 3))
        cache.put(self.snapshot(1, 2, 9, 9, 9))
        assert self.tokens(cache.longest_prefix([1, 2, 3, 4])) == [1, 2, 3]
        assert self.tokens(cache.longest_prefix([1, 2, 9, 9, 8])) == [1, 2, 9, 9]
        assert cache.longest_prefix([7, 1, 2, 3]) is None
        assert cache.longest_prefix([1]) is None

    def test_leaves_the_last_token_to_prefill(self, cache: PrefixCache) -> None:
        cache.put(self.snapshot(1, 2, 3))
        assert self.tokens(cache.longest_prefix([1, 2, 3])) == [1, 2]

    def test_trimming_does_not_change_the_entry(self, cache: PrefixCache) -> None:
        cache.put(self.snapshot(1, 2, 3, 4))
        (layer,) = (cache.longest_prefix([1, 2, 7]) or self.snapshot()).cache
        layer.update_and_fetch(mx.full((1, 1, 1, 1), 5.0), mx.full((1, 1, 1, 1), 5.0))
        assert self.tokens(cache.longest_prefix([1, 2, 3, 4, 5])) == [1, 2, 3, 4]

    def test_caches_that_cannot_be_trimmed_are_reused_whole(self, tiny_sliding: Path) -> None:
        cache = prefix_cache(tiny_sliding)
        cache.put(self.snapshot(1, 2, 3, 4))
        cache.put(self.snapshot(1, 2))
        assert len(cache) == 2
        assert self.tokens(cache.longest_prefix([1, 2, 3, 9])) == [1, 2]
        assert self.tokens(cache.longest_prefix([1, 2, 3, 4, 9])) == [1, 2, 3, 4]
        assert self.tokens(cache.longest_prefix([1, 2, 3, 4])) == [1, 2]

    def test_a_longer_sequence_replaces_its_prefixes(self, cache: PrefixCache) -> None:
        cache.put(self.snapshot(1, 2))
        cache.put(self.snapshot(1, 2, 3))
        cache.put(self.snapshot(1, 2))
        assert len(cache) == 1

    def test_evicts_the_least_recently_used_first(self, cache: PrefixCache) -> None:
        for first in (1, 2, 3):
            cache.put(self.snapshot(first, 0))
        cache.longest_prefix([1, 0, 0])
        cache.shrink(cache.nbytes - 1)
        assert cache.longest_prefix([2, 0, 0]) is None
        assert cache.longest_prefix([1, 0, 0]) is not None
        cache.shrink(0)
        assert (len(cache), cache.nbytes) == (0, 0)

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import Sampling
from mlx_host_text import sampling as kit
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import Answered, Round, answer, answer_one, ask, load
from tests.support.tiny_llama import VOCABULARY


def seeded(seed: int, **more: Any) -> Sampling:
    return Sampling(temperature=1.0, seed=seed, **more)


def spelled(answered: Answered, choice: int = 0) -> list[bytes]:
    """The answer's tokens, by what they spell; the request must ask for log-probabilities."""
    return [each.chosen.bytes for each in answered.logprobs[choice]]


class TestSeed:
    def test_repeats_an_answer(self, model: TextModel) -> None:
        first, second, other = (answer_one(model, ask(sampling=seeded(seed))).text for seed in (7, 7, 8))
        assert first == second
        assert first != other

    def test_holds_whatever_else_is_in_the_batch(self, tiny_llama: Path) -> None:
        model = load(tiny_llama, prompt_cache_bytes=0)
        alone = answer_one(model, ask(sampling=seeded(7), max_tokens=30)).text
        running = Round(model)
        running.join(ask("Something else.", sampling=seeded(9), max_tokens=50))
        running.join(ask("And more.", sampling=Sampling(temperature=1.5), max_tokens=7))
        for _ in range(5):
            running.turn()
        mine = running.join(ask(sampling=seeded(7), max_tokens=30))
        for _ in range(4):
            running.turn()
        running.join(ask("Greedy.", max_tokens=10))
        running.finish()
        assert mine.text == alone

    def test_gives_each_of_several_answers_its_own_draw(self, model: TextModel) -> None:
        first, second = (answer_one(model, ask(sampling=seeded(7), n=3)) for _ in range(2))
        assert first.texts == second.texts
        assert len(set(first.texts.values())) == 3
        assert first.texts[0] == answer_one(model, ask(sampling=seeded(7))).text

    @pytest.mark.parametrize("seed", [-1, 0, 2**63, 2**70])
    def test_may_be_any_whole_number(self, model: TextModel, seed: int) -> None:
        first, second = (answer_one(model, ask(sampling=seeded(seed))).text for _ in range(2))
        assert first == second

    def test_missing_makes_every_answer_new(self, model: TextModel) -> None:
        answers = answer(model, *(ask(sampling=Sampling(temperature=1.0)) for _ in range(3)))
        assert len({each.text for each in answers}) == 3


class TestDefaults:
    def test_are_to_sample_at_temperature_one(self, model: TextModel) -> None:
        first, second = (answer_one(model, ask(sampling=Sampling(seed=seed))).text for seed in (1, 2))
        assert first != second

    @pytest.mark.parametrize("config", [{"temperature": 0}, {"do_sample": False, "temperature": 0.7}, {"top_k": 1}])
    def test_come_from_the_models_generation_config(
        self, tiny_llama: Path, tmp_path: Path, config: dict[str, Any]
    ) -> None:
        greedy = answer_one(load(tiny_llama), ask()).text
        shutil.copytree(tiny_llama, tmp_path, dirs_exist_ok=True)
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, **config}))
        assert answer_one(load(tmp_path), ask(sampling=Sampling())).text == greedy

    def test_of_the_options_go_before_the_models_and_the_requests_before_both(
        self, tiny_llama: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(tiny_llama, tmp_path, dirs_exist_ok=True)
        (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 1.5, "top_k": 50}))
        model = load(tmp_path, temperature=0.0, max_tokens=5)
        greedy = answer_one(load(tiny_llama), ask(max_tokens=5)).text
        assert answer_one(model, ask(sampling=Sampling(), max_tokens=None)).text == greedy
        hot = answer_one(model, ask(sampling=seeded(3), max_tokens=6))
        assert hot.completion_tokens == 6
        assert not hot.text.startswith(greedy)

    def test_end_tokens_of_the_generation_config_end_answers(self, tiny_llama: Path, tmp_path: Path) -> None:
        first = spelled(answer_one(load(tiny_llama), ask(top_logprobs=0)))[2]
        shutil.copytree(tiny_llama, tmp_path, dirs_exist_ok=True)
        model = load(tiny_llama)
        token = next(i for i in range(VOCABULARY) if model._tokenizer.token_bytes(i) == first)
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, token]}))
        answered = answer_one(load(tmp_path), ask(top_logprobs=0))
        assert answered.reason == "stop"
        assert first not in spelled(answered)
        assert answered.completion_tokens == len(spelled(answered)) + 1


class TestLogitBias:
    def test_forbids_and_forces_tokens(self, model: TextModel) -> None:
        plain = spelled(answer_one(model, ask(top_logprobs=0)))
        forced = spelled(
            answer_one(model, ask(top_logprobs=0, sampling=Sampling(temperature=0, logit_bias={500: 100})))
        )
        assert set(forced) == {model._tokenizer.token_bytes(500)}
        token = next(i for i in range(VOCABULARY) if model._tokenizer.token_bytes(i) == plain[0])
        without = spelled(
            answer_one(model, ask(top_logprobs=0, sampling=Sampling(temperature=0, logit_bias={token: -100})))
        )
        assert plain[0] not in without

    def test_an_end_token_that_is_forced_ends_the_answer_at_once(self, model: TextModel) -> None:
        answered = answer_one(model, ask(sampling=Sampling(temperature=0, logit_bias={2: 100})))
        assert (answered.text, answered.reason, answered.completion_tokens) == ("", "stop", 1)

    @pytest.mark.parametrize("token", [-1, VOCABULARY])
    def test_refuses_a_token_that_is_not_there(self, model: TextModel, token: int) -> None:
        with pytest.raises(InvalidRequestError, match=rf"{token}.*0 to {VOCABULARY - 1}") as refusal:
            answer_one(model, ask(sampling=Sampling(logit_bias={token: 1.0})))
        assert refusal.value.param == "logit_bias"

    def test_holds_in_a_batch_of_rows_without(self, model: TextModel) -> None:
        plain = answer_one(model, ask()).text
        forced = ask(sampling=Sampling(temperature=0, logit_bias={500: 100}), top_logprobs=0)
        one, other, another = answer(model, ask(), forced, ask())
        assert one.text == another.text == plain
        assert set(spelled(other)) == {model._tokenizer.token_bytes(500)}


class TestPenalties:
    """One token is forced, again and again; how far it leads the next best shows what was taken from it."""

    def leads(self, model: TextModel, **penalties: float) -> list[float]:
        sampling = Sampling(temperature=0.0, logit_bias={600: 100.0}, **penalties)  # type: ignore[arg-type]
        answered = answer_one(model, ask(max_tokens=30, top_logprobs=2, sampling=sampling))
        assert set(spelled(answered)) == {model._tokenizer.token_bytes(600)}
        return [each.top[0].logprob - each.top[1].logprob for each in answered.logprobs[0]]

    def taken(self, model: TextModel, **penalties: float) -> list[float]:
        return [plain - less for plain, less in zip(self.leads(model), self.leads(model, **penalties), strict=True)]

    def test_frequency_is_taken_for_every_occurrence(self, model: TextModel) -> None:
        assert self.taken(model, frequency_penalty=2.0) == pytest.approx([2.0 * i for i in range(30)], abs=1e-3)

    def test_presence_is_taken_once(self, model: TextModel) -> None:
        assert self.taken(model, presence_penalty=1.5) == pytest.approx([0.0] + [1.5] * 29, abs=1e-3)

    def test_both_add_up_and_may_be_negative(self, model: TextModel) -> None:
        expected = [0.0] + [0.5 - i for i in range(1, 30)]
        assert self.taken(model, presence_penalty=0.5, frequency_penalty=-1.0) == pytest.approx(expected, abs=1e-3)

    def test_repetition_makes_a_token_of_the_prompt_less_likely(self, model: TextModel) -> None:
        def first_logprob(**penalties: float) -> dict[bytes, float]:
            sampling = Sampling(temperature=0.0, **penalties)  # type: ignore[arg-type]
            answered = answer_one(model, ask("bridge", max_tokens=1, top_logprobs=VOCABULARY, sampling=sampling))
            return {each.bytes: each.logprob for each in answered.logprobs[0][0].top}

        plain = first_logprob()
        wide = first_logprob(repetition_penalty=5.0, repetition_context_size=50)
        narrow = first_logprob(repetition_penalty=5.0, repetition_context_size=1)
        assert wide[b"bridge"] < plain[b"bridge"] - 0.5
        assert narrow[b"bridge"] == pytest.approx(plain[b"bridge"], abs=0.2)


class TestProcessors:
    LOGITS = (1.0, -1.0, 2.0, -2.0, 0.5)

    def process(self, tokens: list[int], prompt: int, **settings: Any) -> list[float]:
        logits: Any = mx.array([self.LOGITS])
        bias = settings.pop("logit_bias", {})
        for processor in kit.logits_processors(kit.SamplingSettings(**settings), bias, prompt):
            logits = processor(mx.array(tokens), logits)
        return [round(value, 4) for value in logits[0].tolist()]

    def test_presence_and_frequency_look_at_the_answer_only(self) -> None:
        assert self.process([0, 0, 1], 3, presence_penalty=1.0, frequency_penalty=0.5) == list(self.LOGITS)
        assert self.process([0, 0, 1, 2, 2, 3], 3, frequency_penalty=0.5) == [1.0, -1.0, 1.0, -2.5, 0.5]
        assert self.process([0, 0, 1, 2, 2, 3], 3, presence_penalty=0.5) == [1.0, -1.0, 1.5, -2.5, 0.5]

    def test_they_look_at_all_of_the_answer(self) -> None:
        assert self.process([4] + [0] * 100, 1, frequency_penalty=0.01) == [0.0, -1.0, 2.0, -2.0, 0.5]

    def test_negative_penalties_favour(self) -> None:
        assert self.process([0, 1], 1, presence_penalty=-1.0, frequency_penalty=-1.0) == [1.0, 1.0, 2.0, -2.0, 0.5]

    def test_repetition_looks_back_over_prompt_and_answer(self) -> None:
        assert self.process([0, 1, 1], 2, repetition_penalty=2.0) == [0.5, -2.0, 2.0, -2.0, 0.5]
        assert self.process([0, 1, 2], 2, repetition_penalty=2.0, repetition_context_size=1) == [
            1.0,
            -1.0,
            1.0,
            -2.0,
            0.5,
        ]

    def test_bias_comes_last(self) -> None:
        assert self.process([2], 0, repetition_penalty=2.0, logit_bias={2: 3.0, 4: -1.0}) == [
            1.0,
            -1.0,
            4.0,
            -2.0,
            -0.5,
        ]

    def test_nothing_to_do_is_no_processor(self) -> None:
        assert kit.logits_processors(kit.SamplingSettings(), {}, 3) == []


class TestFilters:
    PROBABILITIES = (0.4, 0.3, 0.2, 0.07, 0.03)

    @property
    def logits(self) -> Any:
        return mx.log(mx.array([self.PROBABILITIES, tuple(reversed(self.PROBABILITIES))]))

    @staticmethod
    def kept(logits: Any) -> list[list[int]]:
        return [[i for i, value in enumerate(row) if value > -math.inf] for row in logits.tolist()]

    @pytest.mark.parametrize(("k", "kept"), [(1, 1), (3, 3), (5, 5), (9, 5)])
    def test_top_k(self, k: int, kept: int) -> None:
        assert self.kept(kit.top_k(self.logits, k)) == [list(range(kept)), list(range(5 - kept, 5))]

    @pytest.mark.parametrize(("p", "kept"), [(0.0, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.999, 5)])
    def test_top_p(self, p: float, kept: int) -> None:
        assert self.kept(kit.top_p(self.logits, p)) == [list(range(kept)), list(range(5 - kept, 5))]

    @pytest.mark.parametrize(("p", "kept"), [(1.0, 1), (0.7, 2), (0.1, 4), (0.01, 5)])
    def test_min_p(self, p: float, kept: int) -> None:
        assert self.kept(kit.min_p(self.logits, p)) == [list(range(kept)), list(range(5 - kept, 5))]

    def test_xtc_leaves_the_least_likely_of_the_likely(self) -> None:
        key = mx.random.key(0)
        assert self.kept(kit.xtc(self.logits, 1.0, 0.15, exempt=[], key=key)) == [[2, 3, 4], [0, 1, 2]]
        assert self.kept(kit.xtc(self.logits, 1.0, 0.15, exempt=[0], key=key)) == [[0, 2, 3, 4], [0, 1, 2]]
        assert self.kept(kit.xtc(self.logits, 1.0, 0.5, exempt=[], key=key)) == [[0, 1, 2, 3, 4]] * 2
        assert self.kept(kit.xtc(self.logits, 0.0, 0.15, exempt=[], key=key)) == [[0, 1, 2, 3, 4]] * 2

    def test_xtc_happens_as_often_as_it_should_and_for_each_row_by_itself(self) -> None:
        logits = mx.repeat(self.logits[:1], 2000, axis=0)
        kept = self.kept(kit.xtc(logits, 0.25, 0.15, exempt=[], key=mx.random.key(1)))
        assert 400 < sum(row == [2, 3, 4] for row in kept) < 600


class TestDraw:
    def counts(self, settings: kit.SamplingSettings, rows: int = 4000) -> list[float]:
        sampler = kit.SamplerFactory([]).sampler(settings, seed=1, choice=0)
        logprobs = mx.repeat(mx.log(mx.array([[0.5, 0.3, 0.15, 0.05]])), rows, axis=0)
        drawn = Counter(sampler(logprobs).tolist())
        return [drawn[token] / rows for token in range(4)]

    def test_follows_the_probabilities(self) -> None:
        assert self.counts(kit.SamplingSettings()) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)

    def test_temperature_is_applied_before_the_filters(self) -> None:
        # At temperature 2 the two likeliest have less than 0.7 of the mass, at 1 they have 0.8.
        assert sum(count > 0 for count in self.counts(kit.SamplingSettings(temperature=2.0, top_p=0.75))) == 3
        assert sum(count > 0 for count in self.counts(kit.SamplingSettings(top_p=0.75))) == 2

    @pytest.mark.parametrize("temperature", [0.0, 1e-9, 1e-320])
    def test_next_to_no_temperature_is_greedy(self, temperature: float) -> None:
        assert self.counts(kit.SamplingSettings(temperature=temperature), rows=50) == [1, 0, 0, 0]

    def test_does_not_turn_on_the_last_bit_of_a_logit(self) -> None:
        logprobs = mx.random.normal((1, 50000), key=mx.random.key(0))
        rounded = logprobs + 1e-6 * mx.random.normal(logprobs.shape, key=mx.random.key(1))
        for seed in range(200):
            one, other = (kit.SamplerFactory([]).sampler(kit.SamplingSettings(), seed, 0) for _ in range(2))
            assert one(logprobs).item() == other(rounded).item()

    def test_rows_with_the_same_settings_share_a_sampler(self) -> None:
        samplers = kit.SamplerFactory([])
        settings = kit.SamplingSettings(top_k=5)
        assert samplers.sampler(settings, None, 0) is samplers.sampler(kit.SamplingSettings(top_k=5), None, 1)
        assert samplers.sampler(settings, None, 0) is not samplers.sampler(kit.SamplingSettings(top_k=6), None, 0)
        assert samplers.sampler(settings, 1, 0) is not samplers.sampler(settings, 1, 0)
        for k in range(1, 200):
            samplers.sampler(kit.SamplingSettings(top_k=k), None, 0)
        assert len(samplers._shared) <= 64


def test_every_parameter_works_in_one_running_batch(model: TextModel) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"temperature": 0.0},
        {"top_p": 0.5},
        {"top_k": 3},
        {"min_p": 0.2},
        {"repetition_penalty": 1.3, "repetition_context_size": 5},
        {"presence_penalty": 1.0, "frequency_penalty": -0.5},
        {"xtc_probability": 0.5, "xtc_threshold": 0.01},
        {"logit_bias": {9: 3.0}, "top_p": 0.0},
    ]
    requests = [
        ask(sampling=Sampling(**{"temperature": 0.8, "seed": i, **each}), max_tokens=20)
        for i, each in enumerate(settings)
    ]
    alone = [answer_one(model, request).text for request in requests]
    together = [each.text for each in answer(model, *requests)]
    assert together == alone
    assert len(set(alone)) == len(alone)

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
from mlx_host_text import sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import EngineLoop, RequestOutput, chat_request, generate, generate_one, load
from tests.support.tiny_llama import VOCABULARY


def seeded(seed: int, **more: Any) -> Sampling:
    return Sampling(temperature=1.0, seed=seed, **more)


def token_bytes(output: RequestOutput, choice: int = 0) -> list[bytes]:
    """The bytes of the tokens; the request must ask for log-probabilities."""
    return [each.chosen.bytes for each in output.logprobs[choice]]


class TestSeed:
    def test_repeats_the_output(self, model: TextModel) -> None:
        first, second, other = (generate_one(model, chat_request(sampling=seeded(seed))).text for seed in (7, 7, 8))
        assert first == second
        assert first != other

    def test_repeats_the_output_in_any_batch(self, tiny_llama: Path) -> None:
        model = load(tiny_llama, prompt_cache_bytes=0)
        alone = generate_one(model, chat_request(sampling=seeded(7), max_tokens=30)).text
        loop = EngineLoop(model)
        loop.add(chat_request("Something else.", sampling=seeded(9), max_tokens=50))
        loop.add(chat_request("And more.", sampling=Sampling(temperature=1.5), max_tokens=7))
        for _ in range(5):
            loop.step()
        seeded_output = loop.add(chat_request(sampling=seeded(7), max_tokens=30))
        for _ in range(4):
            loop.step()
        loop.add(chat_request("Greedy.", max_tokens=10))
        loop.run()
        assert seeded_output.text == alone

    def test_gives_different_choices(self, model: TextModel) -> None:
        first, second = (generate_one(model, chat_request(sampling=seeded(7), n=3)) for _ in range(2))
        assert first.texts == second.texts
        assert len(set(first.texts.values())) == 3
        assert first.texts[0] == generate_one(model, chat_request(sampling=seeded(7))).text

    @pytest.mark.parametrize("seed", [-1, 0, 2**63, 2**70])
    def test_may_be_any_integer(self, model: TextModel, seed: int) -> None:
        first, second = (generate_one(model, chat_request(sampling=seeded(seed))).text for _ in range(2))
        assert first == second

    def test_missing_gives_different_outputs(self, model: TextModel) -> None:
        outputs = generate(model, *(chat_request(sampling=Sampling(temperature=1.0)) for _ in range(3)))
        assert len({each.text for each in outputs}) == 3


class TestDefaults:
    def test_temperature_is_one(self, model: TextModel) -> None:
        first, second = (generate_one(model, chat_request(sampling=Sampling(seed=seed))).text for seed in (1, 2))
        assert first != second

    @pytest.mark.parametrize("config", [{"temperature": 0}, {"do_sample": False, "temperature": 0.7}, {"top_k": 1}])
    def test_come_from_the_models_generation_config(
        self, tiny_llama: Path, tmp_path: Path, config: dict[str, Any]
    ) -> None:
        greedy = generate_one(load(tiny_llama), chat_request()).text
        shutil.copytree(tiny_llama, tmp_path, dirs_exist_ok=True)
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, **config}))
        assert generate_one(load(tmp_path), chat_request(sampling=Sampling())).text == greedy

    def test_precedence_is_request_then_options_then_model(self, tiny_llama: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_llama, tmp_path, dirs_exist_ok=True)
        (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 1.5, "top_k": 50}))
        model = load(tmp_path, temperature=0.0, max_tokens=5)
        greedy = generate_one(load(tiny_llama), chat_request(max_tokens=5)).text
        assert generate_one(model, chat_request(sampling=Sampling(), max_tokens=None)).text == greedy
        hot = generate_one(model, chat_request(sampling=seeded(3), max_tokens=6))
        assert hot.completion_tokens == 6
        assert not hot.text.startswith(greedy)

    def test_end_tokens_come_from_the_generation_config(self, tiny_llama: Path, tmp_path: Path) -> None:
        first = token_bytes(generate_one(load(tiny_llama), chat_request(top_logprobs=0)))[2]
        shutil.copytree(tiny_llama, tmp_path, dirs_exist_ok=True)
        model = load(tiny_llama)
        token = next(i for i in range(VOCABULARY) if model._tokenizer.token_bytes(i) == first)
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, token]}))
        output = generate_one(load(tmp_path), chat_request(top_logprobs=0))
        assert output.reason == "stop"
        assert first not in token_bytes(output)
        assert output.completion_tokens == len(token_bytes(output)) + 1


class TestLogitBias:
    def test_bans_and_forces_tokens(self, model: TextModel) -> None:
        plain = token_bytes(generate_one(model, chat_request(top_logprobs=0)))
        forced = token_bytes(
            generate_one(model, chat_request(top_logprobs=0, sampling=Sampling(temperature=0, logit_bias={500: 100})))
        )
        assert set(forced) == {model._tokenizer.token_bytes(500)}
        token = next(i for i in range(VOCABULARY) if model._tokenizer.token_bytes(i) == plain[0])
        without = token_bytes(
            generate_one(
                model, chat_request(top_logprobs=0, sampling=Sampling(temperature=0, logit_bias={token: -100}))
            )
        )
        assert plain[0] not in without

    def test_a_forced_end_token_ends_the_output(self, model: TextModel) -> None:
        output = generate_one(model, chat_request(sampling=Sampling(temperature=0, logit_bias={2: 100})))
        assert (output.text, output.reason, output.completion_tokens) == ("", "stop", 1)

    @pytest.mark.parametrize("token", [-1, VOCABULARY])
    def test_rejects_a_token_out_of_range(self, model: TextModel, token: int) -> None:
        with pytest.raises(InvalidRequestError, match=rf"{token}.*0 to {VOCABULARY - 1}") as error:
            generate_one(model, chat_request(sampling=Sampling(logit_bias={token: 1.0})))
        assert error.value.param == "logit_bias"

    def test_applies_to_its_sequence_only(self, model: TextModel) -> None:
        plain = generate_one(model, chat_request()).text
        forced = chat_request(sampling=Sampling(temperature=0, logit_bias={500: 100}), top_logprobs=0)
        one, other, another = generate(model, chat_request(), forced, chat_request())
        assert one.text == another.text == plain
        assert set(token_bytes(other)) == {model._tokenizer.token_bytes(500)}


class TestPenalties:
    """One token is forced in every step; penalties reduce its lead over the second most likely token."""

    def leads(self, model: TextModel, **penalties: float) -> list[float]:
        sampling = Sampling(temperature=0.0, logit_bias={600: 100.0}, **penalties)  # type: ignore[arg-type]
        output = generate_one(model, chat_request(max_tokens=30, top_logprobs=2, sampling=sampling))
        assert set(token_bytes(output)) == {model._tokenizer.token_bytes(600)}
        return [each.top[0].logprob - each.top[1].logprob for each in output.logprobs[0]]

    def penalty(self, model: TextModel, **penalties: float) -> list[float]:
        leads = zip(self.leads(model), self.leads(model, **penalties), strict=True)
        return [plain - penalized for plain, penalized in leads]

    def test_frequency_penalty_grows_with_every_occurrence(self, model: TextModel) -> None:
        assert self.penalty(model, frequency_penalty=2.0) == pytest.approx([2.0 * i for i in range(30)], abs=1e-3)

    def test_presence_penalty_is_constant(self, model: TextModel) -> None:
        assert self.penalty(model, presence_penalty=1.5) == pytest.approx([0.0] + [1.5] * 29, abs=1e-3)

    def test_both_penalties_add_up_and_may_be_negative(self, model: TextModel) -> None:
        expected = [0.0] + [0.5 - i for i in range(1, 30)]
        assert self.penalty(model, presence_penalty=0.5, frequency_penalty=-1.0) == pytest.approx(expected, abs=1e-3)

    def test_repetition_penalty_covers_the_prompt(self, model: TextModel) -> None:
        def first_logprob(**penalties: float) -> dict[bytes, float]:
            sampling = Sampling(temperature=0.0, **penalties)  # type: ignore[arg-type]
            output = generate_one(
                model, chat_request("bridge", max_tokens=1, top_logprobs=VOCABULARY, sampling=sampling)
            )
            return {each.bytes: each.logprob for each in output.logprobs[0][0].top}

        plain = first_logprob()
        everything = first_logprob(repetition_penalty=5.0)
        assert everything[b"bridge"] < plain[b"bridge"] - 0.5
        wide = first_logprob(repetition_penalty=5.0, repetition_context_size=50)
        narrow = first_logprob(repetition_penalty=5.0, repetition_context_size=1)
        assert wide[b"bridge"] < plain[b"bridge"] - 0.5
        assert narrow[b"bridge"] == pytest.approx(plain[b"bridge"], abs=0.2)


class TestProcessors:
    LOGITS = (1.0, -1.0, 2.0, -2.0, 0.5)

    def process(self, tokens: list[int], prompt: int, **settings: Any) -> list[float]:
        logits: Any = mx.array([self.LOGITS])
        bias = settings.pop("logit_bias", {})
        for processor in sampling.logits_processors(sampling.SamplingSettings(**settings), bias, prompt):
            logits = processor(mx.array(tokens), logits)
        return [round(value, 4) for value in logits[0].tolist()]

    def test_presence_and_frequency_penalties_cover_the_output_only(self) -> None:
        assert self.process([0, 0, 1], 3, presence_penalty=1.0, frequency_penalty=0.5) == list(self.LOGITS)
        assert self.process([0, 0, 1, 2, 2, 3], 3, frequency_penalty=0.5) == [1.0, -1.0, 1.0, -2.5, 0.5]
        assert self.process([0, 0, 1, 2, 2, 3], 3, presence_penalty=0.5) == [1.0, -1.0, 1.5, -2.5, 0.5]

    def test_presence_and_frequency_penalties_cover_the_whole_output(self) -> None:
        assert self.process([4] + [0] * 100, 1, frequency_penalty=0.01) == [0.0, -1.0, 2.0, -2.0, 0.5]

    def test_negative_penalties_increase_logits(self) -> None:
        assert self.process([0, 1], 1, presence_penalty=-1.0, frequency_penalty=-1.0) == [1.0, 1.0, 2.0, -2.0, 0.5]

    def test_repetition_penalty_covers_prompt_and_output(self) -> None:
        assert self.process([0, 1, 1], 2, repetition_penalty=2.0) == [0.5, -2.0, 2.0, -2.0, 0.5]
        assert self.process([0, 1, 2], 2, repetition_penalty=2.0, repetition_context_size=1) == [
            1.0,
            -1.0,
            1.0,
            -2.0,
            0.5,
        ]

    def test_repetition_penalty_covers_all_tokens_by_default(self) -> None:
        assert self.process([0] + [4] * 500, 1, repetition_penalty=2.0) == [0.5, -1.0, 2.0, -2.0, 0.25]
        # Images are negative numbers, which cannot be penalized.
        assert self.process([-1, -5, 2], 3, repetition_penalty=2.0) == [1.0, -1.0, 1.0, -2.0, 0.5]

    def test_bias_is_applied_last(self) -> None:
        assert self.process([2], 0, repetition_penalty=2.0, logit_bias={2: 3.0, 4: -1.0}) == [
            1.0,
            -1.0,
            4.0,
            -2.0,
            -0.5,
        ]

    def test_default_settings_have_no_processors(self) -> None:
        assert sampling.logits_processors(sampling.SamplingSettings(), {}, 3) == []


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
        assert self.kept(sampling.top_k(self.logits, k)) == [list(range(kept)), list(range(5 - kept, 5))]

    @pytest.mark.parametrize(("p", "kept"), [(0.0, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.999, 5)])
    def test_top_p(self, p: float, kept: int) -> None:
        assert self.kept(sampling.top_p(self.logits, p)) == [list(range(kept)), list(range(5 - kept, 5))]

    @pytest.mark.parametrize(("p", "kept"), [(1.0, 1), (0.7, 2), (0.1, 4), (0.01, 5)])
    def test_min_p(self, p: float, kept: int) -> None:
        assert self.kept(sampling.min_p(self.logits, p)) == [list(range(kept)), list(range(5 - kept, 5))]

    def test_xtc_keeps_the_least_likely_token_above_the_threshold(self) -> None:
        key = mx.random.key(0)
        assert self.kept(sampling.xtc(self.logits, 1.0, 0.15, exempt=[], key=key)) == [[2, 3, 4], [0, 1, 2]]
        assert self.kept(sampling.xtc(self.logits, 1.0, 0.15, exempt=[0], key=key)) == [[0, 2, 3, 4], [0, 1, 2]]
        assert self.kept(sampling.xtc(self.logits, 1.0, 0.5, exempt=[], key=key)) == [[0, 1, 2, 3, 4]] * 2
        assert self.kept(sampling.xtc(self.logits, 0.0, 0.15, exempt=[], key=key)) == [[0, 1, 2, 3, 4]] * 2

    def test_xtc_applies_to_each_row_with_its_probability(self) -> None:
        logits = mx.repeat(self.logits[:1], 2000, axis=0)
        kept = self.kept(sampling.xtc(logits, 0.25, 0.15, exempt=[], key=mx.random.key(1)))
        assert 400 < sum(row == [2, 3, 4] for row in kept) < 600


class TestSamplers:
    def counts(self, settings: sampling.SamplingSettings, rows: int = 4000) -> list[float]:
        sampler = sampling.SamplerFactory([]).sampler(settings, seed=1, choice=0)
        logprobs = mx.repeat(mx.log(mx.array([[0.5, 0.3, 0.15, 0.05]])), rows, axis=0)
        tokens = Counter(sampler(logprobs).tolist())
        return [tokens[token] / rows for token in range(4)]

    def test_follow_the_probabilities(self) -> None:
        assert self.counts(sampling.SamplingSettings()) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)

    def test_apply_temperature_before_the_filters(self) -> None:
        # The two most likely tokens have a total probability below 0.7 at temperature 2, and of 0.8 at temperature 1.
        assert sum(count > 0 for count in self.counts(sampling.SamplingSettings(temperature=2.0, top_p=0.75))) == 3
        assert sum(count > 0 for count in self.counts(sampling.SamplingSettings(top_p=0.75))) == 2

    @pytest.mark.parametrize("temperature", [0.0, 1e-9, 1e-320])
    def test_are_greedy_near_temperature_zero(self, temperature: float) -> None:
        assert self.counts(sampling.SamplingSettings(temperature=temperature), rows=50) == [1, 0, 0, 0]

    def test_are_stable_under_rounding_of_logits(self) -> None:
        logprobs = mx.random.normal((1, 50000), key=mx.random.key(0))
        rounded = logprobs + 1e-6 * mx.random.normal(logprobs.shape, key=mx.random.key(1))
        for seed in range(200):
            one, other = (sampling.SamplerFactory([]).sampler(sampling.SamplingSettings(), seed, 0) for _ in range(2))
            assert one(logprobs).item() == other(rounded).item()

    def test_are_shared_by_unseeded_sequences_with_equal_settings(self) -> None:
        samplers = sampling.SamplerFactory([])
        settings = sampling.SamplingSettings(top_k=5)
        assert samplers.sampler(settings, None, 0) is samplers.sampler(sampling.SamplingSettings(top_k=5), None, 1)
        assert samplers.sampler(settings, None, 0) is not samplers.sampler(sampling.SamplingSettings(top_k=6), None, 0)
        assert samplers.sampler(settings, 1, 0) is not samplers.sampler(settings, 1, 0)
        for k in range(1, 200):
            samplers.sampler(sampling.SamplingSettings(top_k=k), None, 0)
        assert len(samplers._shared) <= 64


def test_all_parameters_in_one_batch_equal_single_output(model: TextModel) -> None:
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
        chat_request(sampling=Sampling(**{"temperature": 0.8, "seed": i, **each}), max_tokens=20)
        for i, each in enumerate(settings)
    ]
    alone = [generate_one(model, request).text for request in requests]
    together = [each.text for each in generate(model, *requests)]
    assert together == alone
    assert len(set(alone)) == len(alone)

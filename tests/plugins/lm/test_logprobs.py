from __future__ import annotations

import math

import pytest
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import GREEDY, Round, answer, answer_one, ask
from tests.support.tiny_llama import VOCABULARY


def test_are_not_sent_unless_asked_for(model: TextModel) -> None:
    assert answer_one(model, ask()).logprobs == {0: []}


@pytest.mark.parametrize("top", [0, 1, 5, 20])
def test_come_one_for_each_token_with_the_best_candidates(model: TextModel, top: int) -> None:
    asked, other = answer(model, ask(top_logprobs=top), ask())
    entries = asked.logprobs[0]
    assert len(entries) == asked.completion_tokens
    assert b"".join(each.chosen.bytes for each in entries).decode() == asked.text == other.text
    for each in entries:
        assert len(each.top) == top
        values = [candidate.logprob for candidate in each.top]
        assert values == sorted(values, reverse=True)
        if top:
            assert each.top[0] == each.chosen
    assert other.logprobs == {0: []}


def test_are_those_of_a_distribution(model: TextModel) -> None:
    answered = answer_one(model, ask(top_logprobs=VOCABULARY, max_tokens=2))
    for each in answered.logprobs[0]:
        assert sum(math.exp(candidate.logprob) for candidate in each.top) == pytest.approx(1, abs=1e-3)


def test_know_of_bias_and_penalties_but_not_of_temperature(model: TextModel) -> None:
    plain = answer_one(model, ask(top_logprobs=2, max_tokens=1)).logprobs[0][0]
    hot = answer_one(model, ask(top_logprobs=2, max_tokens=1, sampling=Sampling(temperature=1.7, seed=1))).logprobs[0][
        0
    ]
    assert hot.top == plain.top
    biased = answer_one(
        model, ask(top_logprobs=1, max_tokens=1, sampling=Sampling(temperature=0, logit_bias={500: 100}))
    ).logprobs[0][0]
    assert biased.chosen.logprob == pytest.approx(0, abs=1e-3)


def test_of_several_answers_go_to_each(model: TextModel) -> None:
    answered = answer_one(model, ask(top_logprobs=1, n=3, sampling=Sampling(temperature=1.0, seed=5)))
    for choice, text in answered.texts.items():
        assert b"".join(each.chosen.bytes for each in answered.logprobs[choice]).decode("utf-8", "replace") == text


def test_an_end_token_has_none(model: TextModel) -> None:
    answered = answer_one(model, ask(top_logprobs=1, sampling=Sampling(temperature=0, logit_bias={2: 100})))
    assert answered.logprobs == {0: []}
    assert answered.completion_tokens == 1


def test_survive_being_read_late(model: TextModel) -> None:
    expected = answer_one(model, ask(top_logprobs=1)).logprobs
    running = Round(model)
    late = running.join(ask(top_logprobs=1))
    running.turn()
    answer_one(model, ask("Something else", max_tokens=40, sampling=GREEDY))
    running.finish()
    assert [each.chosen.bytes for each in late.logprobs[0]] == [each.chosen.bytes for each in expected[0]]

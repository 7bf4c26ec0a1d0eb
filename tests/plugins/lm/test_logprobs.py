from __future__ import annotations

import math

import pytest
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import GREEDY, EngineLoop, chat_request, generate, generate_one
from tests.support.tiny_llama import VOCABULARY


def test_are_absent_by_default(model: TextModel) -> None:
    assert generate_one(model, chat_request()).logprobs == {0: []}


@pytest.mark.parametrize("top", [0, 1, 5, 20])
def test_have_one_entry_per_token_with_the_top_candidates(model: TextModel, top: int) -> None:
    requested, other = generate(model, chat_request(top_logprobs=top), chat_request())
    entries = requested.logprobs[0]
    assert len(entries) == requested.completion_tokens
    assert b"".join(each.chosen.bytes for each in entries).decode() == requested.text == other.text
    for each in entries:
        assert len(each.top) == top
        values = [candidate.logprob for candidate in each.top]
        assert values == sorted(values, reverse=True)
        if top:
            assert each.top[0] == each.chosen
    assert other.logprobs == {0: []}


def test_add_up_to_one(model: TextModel) -> None:
    output = generate_one(model, chat_request(top_logprobs=VOCABULARY, max_tokens=2))
    for each in output.logprobs[0]:
        assert sum(math.exp(candidate.logprob) for candidate in each.top) == pytest.approx(1, abs=1e-3)


def test_include_bias_but_not_temperature(model: TextModel) -> None:
    plain = generate_one(model, chat_request(top_logprobs=2, max_tokens=1)).logprobs[0][0]
    hot = generate_one(
        model, chat_request(top_logprobs=2, max_tokens=1, sampling=Sampling(temperature=1.7, seed=1))
    ).logprobs[0][0]
    assert hot.top == plain.top
    biased = generate_one(
        model, chat_request(top_logprobs=1, max_tokens=1, sampling=Sampling(temperature=0, logit_bias={500: 100}))
    ).logprobs[0][0]
    assert biased.chosen.logprob == pytest.approx(0, abs=1e-3)


def test_belong_to_their_choice(model: TextModel) -> None:
    output = generate_one(model, chat_request(top_logprobs=1, n=3, sampling=Sampling(temperature=1.0, seed=5)))
    for choice, text in output.texts.items():
        assert b"".join(each.chosen.bytes for each in output.logprobs[choice]).decode("utf-8", "replace") == text


def test_end_tokens_have_no_entry(model: TextModel) -> None:
    output = generate_one(model, chat_request(top_logprobs=1, sampling=Sampling(temperature=0, logit_bias={2: 100})))
    assert output.logprobs == {0: []}
    assert output.completion_tokens == 1


def test_are_unchanged_for_a_slow_consumer(model: TextModel) -> None:
    expected = generate_one(model, chat_request(top_logprobs=1)).logprobs
    loop = EngineLoop(model)
    late = loop.add(chat_request(top_logprobs=1))
    loop.step()
    generate_one(model, chat_request("Something else", max_tokens=40, sampling=GREEDY))
    loop.run()
    assert [each.chosen.bytes for each in late.logprobs[0]] == [each.chosen.bytes for each in expected[0]]

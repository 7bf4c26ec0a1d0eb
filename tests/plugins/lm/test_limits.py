from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from mlx_host.errors import ContextLengthExceededError
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import answer_one, ask, load
from tests.support.tiny_llama import CONTEXT_LENGTH, write_tiny_llama

FORCED_END = Sampling(temperature=0.0, logit_bias={2: 100.0})


@pytest.fixture
def length(model: TextModel) -> int:
    """The prompt's length in tokens."""
    return answer_one(model, ask(max_tokens=1)).prompt_tokens


class TestMaxTokens:
    @pytest.mark.parametrize("limit", [1, 2, 17])
    def test_are_exactly_what_comes(self, model: TextModel, limit: int) -> None:
        answered = answer_one(model, ask(max_tokens=limit))
        assert (answered.reason, answered.completion_tokens) == ("length", limit)

    def test_may_be_none_at_all(self, model: TextModel) -> None:
        answered = answer_one(model, ask(max_tokens=0))
        assert (answered.text, answered.reason, answered.completion_tokens) == ("", "length", 0)

    def test_that_end_with_the_end_token_are_a_stop(self, model: TextModel) -> None:
        answered = answer_one(model, ask(max_tokens=1, sampling=FORCED_END))
        assert (answered.reason, answered.completion_tokens) == ("stop", 1)


class TestEndToken:
    def test_counts_but_is_no_text(self, model: TextModel) -> None:
        answered = answer_one(model, ask(sampling=FORCED_END))
        assert (answered.text, answered.reason, answered.completion_tokens) == ("", "stop", 1)

    def test_ends_each_of_several_answers(self, model: TextModel) -> None:
        answered = answer_one(model, ask(sampling=FORCED_END, n=3))
        assert answered.texts == {0: "", 1: "", 2: ""}
        assert (answered.reason, answered.completion_tokens) == ("stop", 3)

    def test_is_the_only_special_token_that_is_left_out(self, model: TextModel) -> None:
        # <|im_start|> is special and ends nothing.
        sampling = Sampling(temperature=0.0, logit_bias={1: 100.0})
        assert answer_one(model, ask(sampling=sampling, max_tokens=2)).text == "<|im_start|>" * 2


class TestContext:
    def test_is_the_models_or_the_options_if_that_is_less(self, tiny_llama: Path) -> None:
        assert load(tiny_llama).context_length == CONTEXT_LENGTH
        assert load(tiny_llama, context_length=100).context_length == 100
        assert load(tiny_llama, context_length=CONTEXT_LENGTH * 2).context_length == CONTEXT_LENGTH

    def test_that_is_exceeded_is_refused_with_both_numbers(self, tiny_llama: Path, length: int) -> None:
        model = load(tiny_llama, context_length=length - 1)
        with pytest.raises(ContextLengthExceededError) as refusal:
            answer_one(model, ask())
        assert (refusal.value.limit, refusal.value.prompt_tokens) == (length - 1, length)
        assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)

    def test_that_is_full_leaves_no_room_for_an_answer(self, tiny_llama: Path, length: int) -> None:
        answered = answer_one(load(tiny_llama, context_length=length), ask())
        assert (answered.text, answered.reason, answered.completion_tokens) == ("", "length", 0)

    @pytest.mark.parametrize("wanted", [None, 6, 100])
    def test_cuts_answers_to_what_fits(self, tiny_llama: Path, length: int, wanted: int | None) -> None:
        answered = answer_one(load(tiny_llama, context_length=length + 5), ask(max_tokens=wanted))
        assert (answered.reason, answered.completion_tokens) == ("length", 5)

    def test_of_a_small_model_can_be_filled_to_the_last_token(self, tmp_path: Path, length: int) -> None:
        model = load(write_tiny_llama(tmp_path, context_length=length + 30))
        assert answer_one(model, ask(max_tokens=None)).completion_tokens == 30


class TestWholeCharacters:
    @pytest.fixture
    def spelling(self, model: TextModel) -> list[int]:
        """The tokens of one character."""
        tokens = model._tokenizer.encode("🦊")
        assert len(tokens) > 1
        return tokens

    def test_wait_for_their_last_token(self, model: TextModel, spelling: list[int]) -> None:
        detokenizer = model._tokenizer.detokenizer()
        assert [detokenizer.add(token) for token in spelling] == [""] * (len(spelling) - 1) + ["🦊"]
        assert detokenizer.finish() == ""

    def test_that_stay_incomplete_come_out_at_the_end(self, model: TextModel, spelling: list[int]) -> None:
        sampling = Sampling(temperature=0.0, logit_bias={spelling[0]: 100.0})
        answered = answer_one(model, ask(sampling=sampling, max_tokens=3, top_logprobs=0))
        assert set(answered.text) == {"\ufffd"}
        assert answered.completion_tokens == 3
        assert len(answered.logprobs[0]) == 3
        assert {each.chosen.token for each in answered.logprobs[0]} == {"\ufffd"}
        assert {each.chosen.bytes for each in answered.logprobs[0]} == {model._tokenizer.token_bytes(spelling[0])}

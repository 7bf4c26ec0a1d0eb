from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from mlx_host.errors import ContextLengthExceededError
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import chat_request, generate_one, load
from tests.support.tiny_llama import CONTEXT_LENGTH, write_tiny_llama

FORCED_END = Sampling(temperature=0.0, logit_bias={2: 100.0})


@pytest.fixture
def length(model: TextModel) -> int:
    """The prompt's length in tokens."""
    return generate_one(model, chat_request(max_tokens=1)).prompt_tokens


class TestMaxTokens:
    @pytest.mark.parametrize("limit", [1, 2, 17])
    def test_limit_the_completion_exactly(self, model: TextModel, limit: int) -> None:
        output = generate_one(model, chat_request(max_tokens=limit))
        assert (output.reason, output.completion_tokens) == ("length", limit)

    def test_may_be_zero(self, model: TextModel) -> None:
        output = generate_one(model, chat_request(max_tokens=0))
        assert (output.text, output.reason, output.completion_tokens) == ("", "length", 0)

    def test_reached_with_an_end_token_is_a_stop(self, model: TextModel) -> None:
        output = generate_one(model, chat_request(max_tokens=1, sampling=FORCED_END))
        assert (output.reason, output.completion_tokens) == ("stop", 1)


class TestEndToken:
    def test_is_counted_and_has_no_text(self, model: TextModel) -> None:
        output = generate_one(model, chat_request(sampling=FORCED_END))
        assert (output.text, output.reason, output.completion_tokens) == ("", "stop", 1)

    def test_ends_each_choice(self, model: TextModel) -> None:
        output = generate_one(model, chat_request(sampling=FORCED_END, n=3))
        assert output.texts == {0: "", 1: "", 2: ""}
        assert (output.reason, output.completion_tokens) == ("stop", 3)

    def test_is_the_only_special_token_without_text(self, model: TextModel) -> None:
        # <|im_start|> is a special token, but not an end token.
        sampling = Sampling(temperature=0.0, logit_bias={1: 100.0})
        assert generate_one(model, chat_request(sampling=sampling, max_tokens=2)).text == "<|im_start|>" * 2


class TestContext:
    def test_is_the_smaller_of_the_model_and_the_option(self, tiny_llama: Path) -> None:
        assert load(tiny_llama).context_length == CONTEXT_LENGTH
        assert load(tiny_llama, context_length=100).context_length == 100
        assert load(tiny_llama, context_length=CONTEXT_LENGTH * 2).context_length == CONTEXT_LENGTH

    def test_exceeded_by_the_prompt_is_rejected_with_both_lengths(self, tiny_llama: Path, length: int) -> None:
        model = load(tiny_llama, context_length=length - 1)
        with pytest.raises(ContextLengthExceededError) as error:
            generate_one(model, chat_request())
        assert (error.value.limit, error.value.prompt_tokens) == (length - 1, length)
        assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)

    def test_filled_by_the_prompt_is_rejected(self, tiny_llama: Path, length: int) -> None:
        model = load(tiny_llama, context_length=length)
        with pytest.raises(ContextLengthExceededError) as error:
            generate_one(model, chat_request())
        assert (error.value.limit, error.value.prompt_tokens) == (length, length)
        # For example to score the prompt.
        output = generate_one(model, chat_request(max_tokens=0))
        assert (output.text, output.reason, output.completion_tokens) == ("", "length", 0)

    @pytest.mark.parametrize("wanted", [None, 6, 100])
    def test_limits_the_completion(self, tiny_llama: Path, length: int, wanted: int | None) -> None:
        output = generate_one(load(tiny_llama, context_length=length + 5), chat_request(max_tokens=wanted))
        assert (output.reason, output.completion_tokens) == ("length", 5)

    def test_can_be_filled_to_the_last_token(self, tmp_path: Path, length: int) -> None:
        model = load(write_tiny_llama(tmp_path, context_length=length + 30))
        assert generate_one(model, chat_request(max_tokens=None)).completion_tokens == 30


class TestIncompleteCharacters:
    @pytest.fixture
    def fox_tokens(self, model: TextModel) -> list[int]:
        """The tokens of a character that has several."""
        tokens = model._tokenizer.encode("🦊")
        assert len(tokens) > 1
        return tokens

    def test_are_withheld_until_their_last_token(self, model: TextModel, fox_tokens: list[int]) -> None:
        detokenizer = model._tokenizer.detokenizer()
        assert [detokenizer.add(token) for token in fox_tokens] == [""] * (len(fox_tokens) - 1) + ["🦊"]
        assert detokenizer.finish() == ""

    def test_become_replacement_characters_at_the_end(self, model: TextModel, fox_tokens: list[int]) -> None:
        sampling = Sampling(temperature=0.0, logit_bias={fox_tokens[0]: 100.0})
        output = generate_one(model, chat_request(sampling=sampling, max_tokens=3, top_logprobs=0))
        assert set(output.text) == {"\ufffd"}
        assert output.completion_tokens == 3
        assert len(output.logprobs[0]) == 3
        assert {each.chosen.token for each in output.logprobs[0]} == {"\ufffd"}
        assert {each.chosen.bytes for each in output.logprobs[0]} == {model._tokenizer.token_bytes(fox_tokens[0])}

"""min_tokens, ignore_eos, bad_words, stop_token_ids and allowed_token_ids change the tokens of a random model."""

from __future__ import annotations

import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import FixedConstraint, JsonValue
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import chat_request, generate, generate_one
from tests.support.tiny_llama import END_OF_TURN, VOCABULARY

# Greedy decoding that prefers to end at once.
ENDING = {END_OF_TURN: 100.0}


def sampling(**fields: object) -> Sampling:
    return Sampling(temperature=0.0, **fields)  # type: ignore[arg-type]  # passed on unchanged


def test_min_tokens_excludes_the_end_until_then(model: TextModel) -> None:
    free, late = generate(
        model,
        chat_request(sampling=sampling(logit_bias=ENDING)),
        chat_request(sampling=sampling(logit_bias=ENDING, min_tokens=5)),
    )
    assert (free.reason, free.completion_tokens) == ("stop", 1)
    # The end token follows five others, and is counted.
    assert (late.reason, late.completion_tokens) == ("stop", 6)


def test_ignore_eos_generates_up_to_the_limit(model: TextModel) -> None:
    output = generate_one(model, chat_request(max_tokens=9, sampling=sampling(logit_bias=ENDING, ignore_eos=True)))
    assert (output.reason, output.completion_tokens) == ("length", 9)


def test_bad_words_do_not_occur(model: TextModel) -> None:
    free = generate_one(model, chat_request(max_tokens=12))
    first = free.deltas[0].text
    masked = generate_one(model, chat_request(max_tokens=12, sampling=sampling(bad_words=(first.strip(),))))
    assert first.strip() in free.text
    assert first.strip() not in masked.text


def test_a_bad_word_of_several_tokens_does_not_occur(model: TextModel) -> None:
    # The tokens of "hello world" are preferred at every step.
    tokens = model._tokenizer.encode(" hello world")
    bias = dict.fromkeys(tokens, 100.0)
    assert len(tokens) == 2
    free, masked = generate(
        model,
        chat_request(max_tokens=12, sampling=Sampling(temperature=5.0, seed=1, logit_bias=bias)),
        chat_request(
            max_tokens=12, sampling=Sampling(temperature=5.0, seed=1, logit_bias=bias, bad_words=("hello world",))
        ),
    )
    assert " hello world" in free.text
    assert "hello world" not in masked.text


def test_a_stop_token_ends_the_output(model: TextModel) -> None:
    free = generate_one(model, chat_request(max_tokens=8))
    first = model._tokenizer.encode(free.text)[0]
    output, n_two = generate(
        model,
        chat_request(max_tokens=8, sampling=sampling(stop_token_ids=(first,))),
        chat_request(max_tokens=8, n=2, sampling=sampling(stop_token_ids=(first,))),
    )
    assert (output.reason, output.completion_tokens) == ("stop", 1)
    # An ordinary token is part of the text.
    assert free.text.startswith(output.text)
    assert output.text
    assert n_two.completion_tokens == 2


def test_only_allowed_tokens_are_generated(model: TextModel) -> None:
    (token,) = model._tokenizer.encode(" the")
    output = generate_one(
        model, chat_request(max_tokens=4, sampling=Sampling(temperature=1.0, allowed_token_ids=(token,)))
    )
    assert output.text.split() == ["the"] * 4


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"allowed_token_ids": (VOCABULARY,)}, "allowed_token_ids"),
        ({"stop_token_ids": (VOCABULARY,)}, "stop_token_ids"),
        ({"allowed_token_ids": (END_OF_TURN,), "ignore_eos": True}, "allowed_token_ids"),
    ],
)
def test_tokens_that_cannot_be_generated_are_rejected(model: TextModel, fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        generate_one(model, chat_request(sampling=sampling(**fields)))
    assert caught.value.param == param


@pytest.mark.parametrize(
    "fields", [{"min_tokens": 3}, {"ignore_eos": True}, {"bad_words": ("a",)}, {"allowed_token_ids": (5,)}]
)
def test_masks_are_rejected_with_structured_output(model: TextModel, fields: dict[str, object]) -> None:
    constraint = FixedConstraint(JsonValue({"type": "object"}))
    with pytest.raises(InvalidRequestError) as caught:
        generate_one(model, chat_request(sampling=sampling(**fields), constraint=constraint))
    assert caught.value.param == next(iter(fields))


def test_requests_with_a_cache_salt_do_not_share_a_prefix(model: TextModel) -> None:
    text = "A prompt that is long enough to be found in the prefix cache, and is sent several times."
    salts = (None, None, "a", "a", None)
    outputs = [generate_one(model, chat_request(text, max_tokens=2, cache_salt=salt)) for salt in salts]
    assert [output.cached_tokens > 0 for output in outputs[1:]] == [True, False, False, True]

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx_host.errors import ContextLengthExceededError
from mlx_host.requests import ChatRequest, TokenizeRequest
from mlx_host_text.chat_template import ChatTemplate
from mlx_host_text.limits import TextLimits
from mlx_host_text.prompts import TextPrompts
from mlx_host_text.tokenizer import Tokenizer, keeps_ascii
from tokenizers import normalizers
from transformers import AutoTokenizer

from tests.support.media import finish

TEXTS = st.one_of(
    st.text(max_size=200),
    st.text("e\u0301\u0308 \n-=#~<|>", max_size=400),
    st.builds(lambda character, count: character * count, st.sampled_from("-=# \u0301a"), st.integers(0, 500)),
)


@pytest.fixture(scope="module")
def composing(tiny_llama: Path) -> Tokenizer:
    inner = AutoTokenizer.from_pretrained(tiny_llama)
    inner.backend_tokenizer.normalizer = normalizers.NFC()
    return Tokenizer(inner)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_min_tokens_is_a_lower_bound(tokenizer: Tokenizer, composing: Tokenizer, text: str) -> None:
    for each in (tokenizer, composing):
        assert each.min_tokens(text) <= len(each.encode(text))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(TEXTS, st.text("a <|im_start|>\n", max_size=60)))
def test_encoding_is_that_of_transformers(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text) == tokenizer._inner.encode(text, add_special_tokens=False)


def test_min_tokens_of_long_text_is_positive(tokenizer: Tokenizer) -> None:
    assert tokenizer.min_tokens("The quick brown fox. " * 1000) > 100


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [
        (None, True),
        (normalizers.NFC(), True),
        (normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), True),
        (normalizers.Replace("aaaa", "b"), False),
        (normalizers.NFKC(), False),
        (normalizers.Sequence([normalizers.NFC(), normalizers.Strip()]), False),
    ],
)
def test_normalizers_that_keep_text(normalizer: object, expected: bool) -> None:
    assert keeps_ascii(normalizer) is expected


def test_a_limit_of_one_call_does_not_affect_others(tokenizer: Tokenizer) -> None:
    text = "one two three four five"
    whole = tokenizer.encode_batch([text])
    assert tokenizer.encode_batch([text], 2) == [whole[0][:2]]
    assert tokenizer.encode_batch([text]) == whole


def test_too_long_conversations_are_rejected_and_counted(tokenizer: Tokenizer) -> None:
    prompts = TextPrompts(tokenizer, ChatTemplate(tokenizer, None), len(tokenizer), TextLimits(1, 100))
    conversation = ChatRequest(
        id="r", model="m", messages=[{"role": "user", "content": "The quick brown fox. " * 1000}]
    )
    with pytest.raises(ContextLengthExceededError, match="at least") as raised:
        finish(prompts.chat(conversation))
    tokens = finish(prompts.tokens(TokenizeRequest(id="r", model="m", prompt=conversation)))
    assert 100 < raised.value.prompt_tokens < len(tokens)
    prompts.close()

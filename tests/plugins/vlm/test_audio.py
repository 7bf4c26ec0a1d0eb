"""Prompts with audio clips."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import chat_request, generate, generate_one
from tests.plugins.vlm.conftest import parts
from tests.support.media import audio_part, image_part, image_url, listen, look, tone
from tests.support.speech import FORMATS, sample
from tests.support.tiny_llama import VOCABULARY
from tests.support.tiny_vlm import GEMMA3N_MEDIA

SEEDED = Sampling(temperature=1.0, seed=5)
# Gemma 3n's tokens per clip, of any length.
CLIP_TOKENS = 188


@pytest.fixture(params=["gemma", "gemma3n"])
def audio_model(request: pytest.FixtureRequest) -> TextModel:
    """A Gemma 4 and a Gemma 3n."""
    model: TextModel = request.getfixturevalue(request.param)
    return model


def test_the_output_depends_on_the_audio(audio_model: TextModel) -> None:
    low, high, again = (
        generate_one(audio_model, chat_request(listen(each), sampling=SEEDED)).text for each in (300, 3000, 300)
    )
    assert low != high
    assert low == again


def test_the_output_depends_on_the_order_of_clips(audio_model: TextModel) -> None:
    first, second = (
        generate_one(audio_model, chat_request(listen(*each), sampling=SEEDED)).text
        for each in ((300, 3000), (3000, 300))
    )
    assert first != second


def test_only_the_same_clip_reuses_the_prefix_cache(audio_model: TextModel) -> None:
    first, other, again = (
        generate_one(audio_model, chat_request(listen(each, text="Same."))) for each in (400, 500, 400)
    )
    assert other.cached_tokens <= 8
    assert again.cached_tokens >= again.prompt_tokens - 8
    assert again.text == first.text


def test_images_audio_and_text_share_a_batch(gemma: TextModel) -> None:
    both = [{"role": "user", "content": [image_part(image_url(1)), audio_part(tone(700.0))]}]
    requests = [chat_request(each, sampling=SEEDED) for each in (both, listen(300), look(2), "Hello")]
    alone = [generate_one(gemma, request).text for request in requests]
    assert [each.text for each in generate(gemma, *requests)] == alone


def test_audio_and_text_share_a_batch(gemma3n: TextModel) -> None:
    requests = [
        chat_request(each, sampling=SEEDED)
        for each in (listen(300, seconds=3), "Hello", listen(900), listen(300, 3000))
    ]
    alone = [generate_one(gemma3n, request).text for request in requests]
    assert [each.text for each in generate(gemma3n, *requests)] == alone
    assert len(set(alone)) == len(alone)


def test_the_next_turn_reuses_the_cached_clip(gemma3n: TextModel) -> None:
    first = listen(300, text="What?")
    reply = generate_one(gemma3n, chat_request(first))
    turns = [*first, {"role": "assistant", "content": reply.text}, {"role": "user", "content": "And then?"}]
    again = generate_one(gemma3n, chat_request(turns))
    assert again.cached_tokens > CLIP_TOKENS
    fresh = generate_one(gemma3n, chat_request([*listen(300.5, text="What?"), *turns[1:]]))
    assert fresh.cached_tokens < CLIP_TOKENS
    assert again.text != reply.text


def test_text_embeddings_equal_those_of_the_language_model(gemma3n: TextModel) -> None:
    loaded, tokens = parts(gemma3n)[0], list(range(100, 110))
    embedded = loaded.embed_text(tokens).arrays
    ids = mx.array([tokens])
    assert mx.allclose(loaded.language_model(ids, **embedded).logits, loaded.language_model(ids).logits, atol=1e-4)
    text, placeholder = "With a clip,", GEMMA3N_MEDIA["audio_token"]
    with_audio = loaded.embed(loaded.process(text + placeholder, (), [np.ones(16000, np.float32)]), "")
    alone = loaded.embed_text(with_audio.tokens).arrays["inputs_embeds"]
    same = mx.all(mx.isclose(with_audio.arrays["inputs_embeds"], alone), axis=-1)[0].tolist()
    assert same == [token < VOCABULARY for token in with_audio.tokens]


@pytest.mark.parametrize("suffix", FORMATS)
def test_audio_formats(gemma: TextModel, suffix: str) -> None:
    part = audio_part(sample(f"capital.{suffix}"), suffix)
    response = generate_one(gemma, chat_request([{"role": "user", "content": [part]}], max_tokens=2))
    assert response.completion_tokens == 2
    assert response.prompt_tokens > 50


@pytest.mark.parametrize(
    ("file", "message"),
    [(b"RIFF and no more", "truncated|cannot be decoded"), (tone(300.0)[:500], "truncated"), (b"", "empty")],
)
def test_a_damaged_clip_is_rejected(audio_model: TextModel, file: bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^messages\[0\].content\[0\]: .*({message})"):
        generate_one(audio_model, chat_request([{"role": "user", "content": [audio_part(file)]}]))


def test_a_clip_that_the_model_would_truncate_is_rejected(audio_model: TextModel) -> None:
    with pytest.raises(InvalidRequestError, match=r"content\[0\]: .*30 seconds") as error:
        generate_one(audio_model, chat_request(listen(300, seconds=31)))
    assert (error.value.status, error.value.code) == (413, "audio_too_long")
    assert generate_one(audio_model, chat_request(listen(300, seconds=30.05), max_tokens=1)).completion_tokens == 1


def test_a_very_short_clip_is_accepted_or_rejected(audio_model: TextModel) -> None:
    for seconds in (0.0001, 0.01):
        request = chat_request([{"role": "user", "content": [audio_part(tone(300.0, seconds))]}], max_tokens=2)
        try:
            assert generate_one(audio_model, request).completion_tokens == 2
        except InvalidRequestError as error:
            assert "audio" in str(error)  # noqa: PT017  either is right
    assert generate_one(audio_model, chat_request(listen(300), max_tokens=2)).completion_tokens == 2

"""What models that hear answer."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import answer, answer_one, ask
from tests.plugins.vlm.conftest import parts
from tests.support.media import audio_part, image_part, image_url, listen, look, tone
from tests.support.speech import FORMATS, sample
from tests.support.tiny_llama import VOCABULARY
from tests.support.tiny_vlm import GEMMA3N_MEDIA

DRAWN = Sampling(temperature=1.0, seed=5)
# Gemma 3n makes as many tokens of a short sound as of a long one.
SOUND = 188


@pytest.fixture(params=["gemma", "gemma3n"])
def hearing(request: pytest.FixtureRequest) -> TextModel:
    """A Gemma 4 and a Gemma 3n."""
    model: TextModel = request.getfixturevalue(request.param)
    return model


def test_different_sounds_give_different_answers_and_the_same_gives_the_same(hearing: TextModel) -> None:
    low, high, again = (answer_one(hearing, ask(listen(each), sampling=DRAWN)).text for each in (300, 3000, 300))
    assert low != high
    assert low == again


def test_the_order_of_sounds_matters(hearing: TextModel) -> None:
    first, second = (
        answer_one(hearing, ask(listen(*each), sampling=DRAWN)).text for each in ((300, 3000), (3000, 300))
    )
    assert first != second


def test_a_sound_is_read_again_from_the_cache_and_another_is_not(hearing: TextModel) -> None:
    first, other, again = (answer_one(hearing, ask(listen(each, text="Same."))) for each in (400, 500, 400))
    assert other.cached_tokens <= 8
    assert again.cached_tokens >= again.prompt_tokens - 8
    assert again.text == first.text


def test_pictures_sounds_and_text_run_in_one_batch(gemma: TextModel) -> None:
    both = [{"role": "user", "content": [image_part(image_url(1)), audio_part(tone(700.0))]}]
    requests = [ask(each, sampling=DRAWN) for each in (both, listen(300), look(2), "Hello")]
    alone = [answer_one(gemma, request).text for request in requests]
    assert [each.text for each in answer(gemma, *requests)] == alone


def test_sounds_and_text_run_in_one_batch(gemma3n: TextModel) -> None:
    requests = [ask(each, sampling=DRAWN) for each in (listen(300, seconds=3), "Hello", listen(900), listen(300, 3000))]
    alone = [answer_one(gemma3n, request).text for request in requests]
    assert [each.text for each in answer(gemma3n, *requests)] == alone
    assert len(set(alone)) == len(alone)


def test_a_conversation_goes_on_after_a_sound(gemma3n: TextModel) -> None:
    first = listen(300, text="What?")
    reply = answer_one(gemma3n, ask(first))
    turns = [*first, {"role": "assistant", "content": reply.text}, {"role": "user", "content": "And then?"}]
    again = answer_one(gemma3n, ask(turns))
    assert again.cached_tokens > SOUND
    fresh = answer_one(gemma3n, ask([*listen(300.5, text="What?"), *turns[1:]]))
    assert fresh.cached_tokens < SOUND
    assert again.text != reply.text


def test_text_is_embedded_as_the_text_part_does_it(gemma3n: TextModel) -> None:
    loaded, tokens = parts(gemma3n)[0], list(range(100, 110))
    embedded = loaded.embed_text(tokens).arrays
    ids = mx.array([tokens])
    assert mx.allclose(loaded.language_model(ids, **embedded).logits, loaded.language_model(ids).logits, atol=1e-4)
    text, mark = "Beside a sound,", GEMMA3N_MEDIA["audio_token"]
    beside = loaded.embed(loaded.process(text + mark, (), [np.ones(16000, np.float32)]), "")
    alone = loaded.embed_text(beside.tokens).arrays["inputs_embeds"]
    same = mx.all(mx.isclose(beside.arrays["inputs_embeds"], alone), axis=-1)[0].tolist()
    assert same == [token < VOCABULARY for token in beside.tokens]


@pytest.mark.parametrize("suffix", FORMATS)
def test_audio_formats(gemma: TextModel, suffix: str) -> None:
    part = audio_part(sample(f"capital.{suffix}"), suffix)
    response = answer_one(gemma, ask([{"role": "user", "content": [part]}], max_tokens=2))
    assert response.completion_tokens == 2
    assert response.prompt_tokens > 50


@pytest.mark.parametrize(
    ("file", "says"),
    [(b"RIFF and no more", "truncated|cannot be decoded"), (tone(300.0)[:500], "truncated"), (b"", "empty")],
)
def test_a_damaged_clip_is_rejected(hearing: TextModel, file: bytes, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^messages\[0\].content\[0\]: .*({says})"):
        answer_one(hearing, ask([{"role": "user", "content": [audio_part(file)]}]))


def test_a_clip_that_the_model_would_cut_off_is_rejected(hearing: TextModel) -> None:
    with pytest.raises(
        InvalidRequestError, match=r"content\[0\]: the audio is longer than the limit of 30 seconds"
    ) as error:
        answer_one(hearing, ask(listen(300, seconds=31)))
    assert (error.value.status, error.value.code) == (413, "audio_too_long")
    assert answer_one(hearing, ask(listen(300, seconds=30.05), max_tokens=1)).completion_tokens == 1


def test_a_very_short_clip_is_accepted_or_rejected(hearing: TextModel) -> None:
    for seconds in (0.0001, 0.01):
        request = ask([{"role": "user", "content": [audio_part(tone(300.0, seconds))]}], max_tokens=2)
        try:
            assert answer_one(hearing, request).completion_tokens == 2
        except InvalidRequestError as refusal:
            assert "audio" in str(refusal)  # noqa: PT017  either is right
    assert answer_one(hearing, ask(listen(300), max_tokens=2)).completion_tokens == 2

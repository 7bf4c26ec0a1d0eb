"""What a model that hears answers."""

from __future__ import annotations

import pytest
from mlx_host.errors import InvalidRequest
from mlx_host.requests import Sampling
from mlx_host_vlm.model import VisionModel

from tests.plugins.lm.driver import answer, answer_one, ask
from tests.support.media import listen, look, picture, picture_part, sound_part, tone

DRAWN = Sampling(temperature=1.0, seed=5)


def test_different_sounds_give_different_answers_and_the_same_gives_the_same(gemma: VisionModel) -> None:
    low, high, again = (answer_one(gemma, ask(listen(each), sampling=DRAWN)).text for each in (300, 3000, 300))
    assert low != high
    assert low == again


def test_the_order_of_sounds_matters(gemma: VisionModel) -> None:
    first, second = (answer_one(gemma, ask(listen(*each), sampling=DRAWN)).text for each in ((300, 3000), (3000, 300)))
    assert first != second


def test_a_sound_is_read_again_from_the_cache_and_another_is_not(gemma: VisionModel) -> None:
    first, other, again = (answer_one(gemma, ask(listen(each, text="Same."))) for each in (400, 500, 400))
    assert other.cached_tokens <= 8
    assert again.cached_tokens >= again.prompt_tokens - 8
    assert again.text == first.text


def test_pictures_sounds_and_text_run_in_one_batch(gemma: VisionModel) -> None:
    both = [{"role": "user", "content": [picture_part(picture(1)), sound_part(tone(700.0))]}]
    requests = [ask(each, sampling=DRAWN) for each in (both, listen(300), look(2), "Hello")]
    alone = [answer_one(gemma, request).text for request in requests]
    assert [each.text for each in answer(gemma, *requests)] == alone


@pytest.mark.parametrize(
    ("file", "says"),
    [(b"RIFF and no more", "ends early|WAV or MP3"), (tone(300.0)[:500], "ends early"), (b"", "empty")],
)
def test_a_broken_sound_is_refused(gemma: VisionModel, file: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^messages\[0\].content\[0\]: .*({says})"):
        answer_one(gemma, ask([{"role": "user", "content": [sound_part(file)]}]))


def test_a_sound_of_no_length_is_heard_or_refused(gemma: VisionModel) -> None:
    for seconds in (0.0001, 0.01):
        request = ask([{"role": "user", "content": [sound_part(tone(300.0, seconds))]}], max_tokens=2)
        try:
            assert answer_one(gemma, request).completion_tokens == 2
        except InvalidRequest as refusal:
            assert "sound" in str(refusal)  # noqa: PT017  either is right
    assert answer_one(gemma, ask(listen(300), max_tokens=2)).completion_tokens == 2

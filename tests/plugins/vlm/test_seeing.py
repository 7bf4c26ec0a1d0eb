"""What a model that sees answers: by what is in the pictures and in which order, alone or in a batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_host.errors import ContextLengthExceededError, InvalidRequestError, UnsupportedRequestError
from mlx_host.requests import ChatRequest, EmbeddingRequest, Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import Answered, Round, answer, answer_one, ask
from tests.plugins.vlm.conftest import load, parts, processed
from tests.support.media import audio_part, data_url, encoded, image_part, image_url, look, noise, tone
from tests.support.tiny_vlm import write_tiny_paligemma

DRAWN = Sampling(temperature=1.0, seed=5)


@pytest.fixture(params=["qwen", "gemma"])
def model(request: pytest.FixtureRequest) -> TextModel:
    model: TextModel = request.getfixturevalue(request.param)
    return model


def see(*seeds: int, text: str = "What is it?", sampling: Sampling = DRAWN, **more: int) -> ChatRequest:
    return ask(look(*seeds, text=text), sampling=sampling, **more)


def odds(model: TextModel, request: ChatRequest) -> tuple[float, ...]:
    """How likely the answer's first tokens are: they tell more than the likeliest tokens, which seldom change."""
    answered = answer_one(model, replace(request, sampling=Sampling(temperature=0.0), top_logprobs=0, max_tokens=4))
    return tuple(each.chosen.logprob for each in answered.logprobs[0])


def test_different_pictures_give_different_answers_and_the_same_gives_the_same(model: TextModel) -> None:
    first, second, again = (answer_one(model, see(seed)).text for seed in (1, 2, 1))
    assert first != second
    assert first == again


def test_the_order_of_pictures_matters(model: TextModel) -> None:
    assert odds(model, see(1, 2)) != pytest.approx(odds(model, see(2, 1)), abs=1e-3)


def test_pictures_of_different_sizes_and_in_several_turns(model: TextModel) -> None:
    def turns(first: int, second: int) -> tuple[float, ...]:
        wide = image_part(data_url(encoded(noise(first, (150, 60)))))
        talk: list[dict[str, Any]] = [
            {"role": "user", "content": [{"type": "text", "text": "Look:"}, wide, {"type": "text", "text": "?"}]},
            {"role": "assistant", "content": "A cat."},
            *look(second, text="And this?"),
        ]
        return odds(model, ask(talk))

    seen = [turns(*pair) for pair in ((1, 2), (2, 1), (1, 1), (1, 3))]
    for one, other in combinations(seen, 2):
        assert one != pytest.approx(other, abs=1e-3)
    assert turns(1, 2) == pytest.approx(seen[0], abs=1e-3)


@pytest.mark.parametrize(("fixture", "stream_size"), [("qwen", 3), ("gemma", 1)])
def test_a_batch_answers_as_each_alone(request: pytest.FixtureRequest, fixture: str, stream_size: int) -> None:
    model: TextModel = request.getfixturevalue(fixture)
    requests = [
        see(1),
        ask("Hello there."),
        see(2, 3, text="Compare them, please."),
        ask("A longer question without any picture in it, please answer.", sampling=DRAWN),
        see(2, n=2, max_tokens=7),
        see(3, sampling=Sampling(temperature=0.0, repetition_penalty=1.3, presence_penalty=0.5)),
        see(1, text="Again.", sampling=Sampling(temperature=0.8, top_p=0.9, seed=9, logit_bias={5: 3.0})),
    ]
    alone = [answer_one(model, request).texts for request in requests]
    together = Round(model)
    answers = []
    for number, joining in enumerate(requests):
        answers.append(together.join(joining))
        if number % stream_size == 0:
            together.turn()
    together.finish()
    assert [each.texts for each in answers] == alone


@pytest.fixture(scope="module")
def strict(tiny_qwen: Path) -> Iterator[TextModel]:
    """A model that reads three tokens at a time, keeps nothing, and takes little."""
    options = {"max_image_pixels": 10_000, "disable_auto_resize": True, "context_length": 60}
    model = load(tiny_qwen, prefill_step_size=3, prompt_cache_bytes=0, **options)
    yield model
    model.close()


def test_a_prompt_read_in_pieces_gives_the_same(strict: TextModel, qwen: TextModel) -> None:
    for request in (see(1, 2, text="Compare them."), ask("A question of some length, without a picture.")):
        in_pieces = answer_one(strict, request)
        assert len(in_pieces.prefilled) > 3
        assert in_pieces.text == answer_one(qwen, request).text


def test_what_goes_into_deeper_layers_finds_its_tokens(deep: TextModel) -> None:
    def at_once(**changed: object) -> float:
        """How likely the likeliest first token is, as the network says when it reads all in one piece."""
        loaded, made = parts(deep)[0], processed(deep, request)
        grid = {"image_grid_thw": made["image_grid_thw"]}
        features = loaded._features(made["input_ids"], made["pixel_values"], None, grid)
        logits = loaded.language_model(made["input_ids"], **(features | changed)).logits[0, -1]
        return float((logits - mx.logsumexp(logits)).max())

    request = see(1, 2, text="Compare them.")
    expected = at_once()
    assert at_once(deepstack_visual_embeds=None) != pytest.approx(expected, abs=1e-3)
    for _ in ("in pieces", "from the cache"):
        assert odds(deep, request)[0] == pytest.approx(expected, abs=1e-3)
    answer_one(deep, see(1, 3, text="Compare them."))
    assert odds(deep, request)[0] == pytest.approx(expected, abs=1e-3)


def test_prompts_keep_their_positions_while_others_are_read(forgetful: TextModel) -> None:
    def likely(answered: Answered) -> list[float]:
        return [each.chosen.logprob for each in answered.logprobs[0]]

    messages: list[Any] = [look(1), "Hello there, you.", look(2, 1), "Hi."]
    requests = [ask(each, sampling=DRAWN, top_logprobs=0) for each in messages]
    alone = [likely(answer_one(forgetful, request)) for request in requests]
    together = Round(forgetful)
    answers = []
    for request in requests:
        answers.append(together.join(request))
        for _ in range(3):
            together.turn()
    together.finish()
    for answered, expected in zip(answers, alone, strict=True):
        assert likely(answered) == pytest.approx(expected, abs=1e-3)


def test_a_model_that_reads_prompts_whole_answers_one_at_a_time(tmp_path: Path) -> None:
    model = load(write_tiny_paligemma(tmp_path / "paligemma"))
    try:
        assert model.concurrency == 1
        first, second, again = (odds(model, see(seed)) for seed in (1, 2, 1))
        assert first == again
        assert first != pytest.approx(second, abs=1e-3)
        assert answer_one(model, see(1)).cached_tokens == 0
        assert answer_one(model, ask("Hello", max_tokens=3)).completion_tokens == 3
        with pytest.raises(InvalidRequestError, match=r"^n: 2 is more than this model supports \(1\)"):
            answer_one(model, see(1, n=2))
    finally:
        model.close()


def test_a_picture_whose_tokens_see_each_other_is_read_whole(tiny_gemma: Path, gemma: TextModel) -> None:
    pieces = load(tiny_gemma, prefill_step_size=3, prompt_cache_bytes=0)
    try:
        request = see(1, text="Look.")
        assert answer_one(pieces, request).text == answer_one(gemma, request).text
        assert len(parts(pieces)[0].feature_cache) == 0
    finally:
        pieces.close()


def test_two_pictures_never_share_a_cache_entry(model: TextModel) -> None:
    seen, other = (odds(model, see(seed, text="Same words.")) for seed in (11, 12))
    assert other != pytest.approx(seen, abs=1e-3)
    assert odds(model, see(11, text="Same words.")) == pytest.approx(seen, abs=1e-3)
    answered = [answer_one(model, see(seed, text="Same words.")) for seed in (13, 14, 13)]
    # What comes before the picture is the same, and so is what is appended after the question.
    assert [each.cached_tokens <= 8 for each in answered] == [True, True, False]
    assert answered[2].cached_tokens >= answered[2].prompt_tokens - 8


def test_the_next_turn_reads_only_what_is_new(model: TextModel) -> None:
    first = see(21, text="Hello?", sampling=Sampling(temperature=0.0))
    said = answer_one(model, first)
    talk = [*first.messages, {"role": "assistant", "content": said.text}, {"role": "user", "content": "And now?"}]
    warm = answer_one(model, ask(talk, sampling=DRAWN))
    assert warm.cached_tokens > said.prompt_tokens - 8
    other = [*look(22, text="Hello?"), *talk[1:]]
    assert answer_one(model, ask(other, sampling=DRAWN)).cached_tokens <= 8


def test_a_new_picture_in_the_next_turn_is_seen(model: TextModel) -> None:
    talk = [*look(31), {"role": "assistant", "content": "A cat."}]
    answer_one(model, ask([*talk, *look(32)]))
    warm = odds(model, ask([*talk, *look(33)]))
    model._prefix_cache.clear()
    assert odds(model, ask([*talk, *look(33)])) == pytest.approx(warm, abs=1e-3)


def test_media_of_these_models_stand_apart(model: TextModel) -> None:
    assert parts(model)[1]._separate


def test_what_was_seen_is_not_looked_at_again(gemma: TextModel) -> None:
    before = len(parts(gemma)[0].feature_cache)
    first = odds(gemma, see(41))
    assert len(parts(gemma)[0].feature_cache) == before + 1
    gemma._prefix_cache.clear()
    assert odds(gemma, see(41)) == first
    assert len(parts(gemma)[0].feature_cache) == before + 1
    answer_one(gemma, see(42, 41, max_tokens=1))
    answer_one(gemma, see(41, 42, max_tokens=1))
    assert len(parts(gemma)[0].feature_cache) == before + 3


def test_several_answers_to_a_picture_are_drawn_apart(model: TextModel) -> None:
    answers = answer_one(model, see(1, n=3))
    assert len(set(answers.texts.values())) == 3
    assert answers.texts[0] == answer_one(model, see(1)).text


def test_logprobs_add_up(qwen: TextModel) -> None:
    answered = answer_one(qwen, see(1, sampling=Sampling(temperature=0.0), top_logprobs=3, max_tokens=4))
    assert [len(each.top) for each in answered.logprobs[0]] == [3] * 4
    for each in answered.logprobs[0]:
        assert each.chosen == each.top[0]
        assert -20 < each.chosen.logprob <= 0


def test_a_request_that_leaves_while_it_is_read_is_gone(qwen: TextModel) -> None:
    stays, leaves = see(1), see(2, 3)
    alone = answer_one(qwen, stays).text
    for turns in range(1, 6):
        together = Round(qwen)
        left, stayed = together.join(leaves), together.join(stays)
        for _ in range(turns):
            together.turn()
        together.leave(left)
        together.finish()
        assert stayed.text == alone


class TestRefusals:
    def refused(self, model: TextModel, *parts: object) -> InvalidRequestError:
        with pytest.raises(InvalidRequestError) as refusal:
            answer_one(model, ask([{"role": "user", "content": list(parts)}]))
        assert refusal.value.param == "messages"
        return refusal.value

    def test_a_picture_that_is_none_is_refused(self, qwen: TextModel) -> None:
        said = str(self.refused(qwen, {"type": "text", "text": "?"}, image_part(data_url(b"hello"))))
        assert said.startswith("messages[0].content[1]: the file is not an image")

    def test_a_sound_is_refused_by_a_model_without_ears(self, qwen: TextModel) -> None:
        said = str(self.refused(qwen, audio_part(tone(300.0))))
        assert said == (
            "messages[0].content[0] is of type 'input_audio'; this model supports parts of the types text, image_url"
        )

    @pytest.mark.parametrize("size", [(1, 1), (1, 300), (2000, 3)])
    def test_a_picture_of_a_strange_shape_is_seen_or_refused(self, model: TextModel, size: tuple[int, int]) -> None:
        request = ask([{"role": "user", "content": [image_part(image_url(1, size))]}], max_tokens=2)
        try:
            assert answer_one(model, request).completion_tokens == 2
        except InvalidRequestError as refusal:
            assert "reject" in str(refusal)  # noqa: PT017  either is right

    @pytest.mark.parametrize(
        ("fixture", "mark"), [("qwen", "<|image_pad|>"), ("deep", "<|image_pad|>"), ("gemma", "<image_soft_token>")]
    )
    def test_marks_in_the_text_do_not_pass_for_pictures(
        self, request: pytest.FixtureRequest, fixture: str, mark: str
    ) -> None:
        model: TextModel = request.getfixturevalue(fixture)
        said = str(self.refused(model, *look(1)[0]["content"], {"type": "text", "text": f"a {mark} b"}))
        assert said == f"{mark!r} is this model's placeholder for an image_url; remove it from the text"
        assert answer_one(model, ask(mark, max_tokens=2)).completion_tokens == 2

    def test_pictures_that_do_not_fit_are_refused_by_their_tokens(self, strict: TextModel) -> None:
        with pytest.raises(ContextLengthExceededError, match="60 tokens"):
            answer_one(strict, see(1, 2, 3, 4, 5))

    def test_a_long_prompt_is_refused_without_a_word_in_the_log(
        self, strict: TextModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
        with pytest.raises(ContextLengthExceededError, match="60 tokens"):
            answer_one(strict, see(1, text="word " * 9000))
        assert caplog.messages == []

    def test_a_large_picture_is_refused_where_resizing_is_off(self, strict: TextModel) -> None:
        large = image_part(image_url(1, (101, 100)))
        assert "101x100 pixels, which is more than the limit of 10000" in str(self.refused(strict, large))
        large["image_url"]["detail"] = "low"
        assert answer_one(strict, ask([{"role": "user", "content": [large]}], max_tokens=1)).completion_tokens == 1


def test_a_model_that_only_reads_says_who_sees(tiny_reader: Path) -> None:
    model = load(tiny_reader)
    try:
        assert answer_one(model, ask("Hello", max_tokens=3)).completion_tokens == 3
        with pytest.raises(
            InvalidRequestError, match="supports text only; run a model that supports it with --backend vlm"
        ):
            answer_one(model, see(1))
        with pytest.raises(UnsupportedRequestError, match="does not support images"):
            list(model.generate(EmbeddingRequest(id="e", model="m", inputs=[""], images=[image_url(1)])))
    finally:
        model.close()


def test_the_prompt_that_is_echoed_is_as_likely_in_pieces(forgetful: TextModel) -> None:
    """The log-probabilities of its tokens do not depend on what was read before, or on how much is read at once."""
    tokens = forgetful._tokenizer.encode("Once upon a time there was a cat.")
    answer_one(forgetful, see(1, max_tokens=1))
    at_once = mx.concatenate(list(parts(forgetful)[0].next_logprobs(tokens, 100)))
    answer_one(forgetful, see(2, 1, max_tokens=1))
    assert mx.allclose(mx.concatenate(list(parts(forgetful)[0].next_logprobs(tokens, 3))), at_once, atol=1e-3)


def test_answers_together(model: TextModel) -> None:
    """Requests that start in the same turn read their prompts one after the other and decode together."""
    texts = [each.text for each in answer(model, *(see(seed) for seed in (1, 2, 3)))]
    assert texts == [answer_one(model, see(seed)).text for seed in (1, 2, 3)]

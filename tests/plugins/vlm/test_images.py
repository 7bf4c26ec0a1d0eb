"""Prompts with images, alone and in a batch."""

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

from tests.plugins.lm.driver import EngineLoop, RequestOutput, chat_request, generate, generate_one
from tests.plugins.vlm.conftest import load, parts, processed
from tests.support.media import audio_part, data_url, encoded, image_part, image_url, look, noise, tone
from tests.support.tiny_vlm import write_tiny_paligemma

SEEDED = Sampling(temperature=1.0, seed=5)


@pytest.fixture(params=["qwen", "gemma"])
def model(request: pytest.FixtureRequest) -> TextModel:
    model: TextModel = request.getfixturevalue(request.param)
    return model


def image_request(*seeds: int, text: str = "What is it?", sampling: Sampling = SEEDED, **more: int) -> ChatRequest:
    return chat_request(look(*seeds, text=text), sampling=sampling, **more)


def token_logprobs(model: TextModel, request: ChatRequest) -> tuple[float, ...]:
    """Log-probabilities of the first four tokens: more sensitive to the prompt than the tokens themselves."""
    output = generate_one(model, replace(request, sampling=Sampling(temperature=0.0), top_logprobs=0, max_tokens=4))
    return tuple(each.chosen.logprob for each in output.logprobs[0])


def test_the_output_depends_on_the_image(model: TextModel) -> None:
    first, second, again = (generate_one(model, image_request(seed)).text for seed in (1, 2, 1))
    assert first != second
    assert first == again


def test_the_output_depends_on_the_order_of_images(model: TextModel) -> None:
    assert token_logprobs(model, image_request(1, 2)) != pytest.approx(
        token_logprobs(model, image_request(2, 1)), abs=1e-3
    )


def test_images_of_several_sizes_in_several_turns(model: TextModel) -> None:
    def conversation(first: int, second: int) -> tuple[float, ...]:
        wide = image_part(data_url(encoded(noise(first, (150, 60)))))
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": [{"type": "text", "text": "Look:"}, wide, {"type": "text", "text": "?"}]},
            {"role": "assistant", "content": "A cat."},
            *look(second, text="And this?"),
        ]
        return token_logprobs(model, chat_request(messages))

    results = [conversation(*pair) for pair in ((1, 2), (2, 1), (1, 1), (1, 3))]
    for one, other in combinations(results, 2):
        assert one != pytest.approx(other, abs=1e-3)
    assert conversation(1, 2) == pytest.approx(results[0], abs=1e-3)


@pytest.mark.parametrize(("fixture", "requests_per_step"), [("qwen", 3), ("gemma", 1)])
def test_batched_output_equals_single_output(
    request: pytest.FixtureRequest, fixture: str, requests_per_step: int
) -> None:
    model: TextModel = request.getfixturevalue(fixture)
    requests = [
        image_request(1),
        chat_request("Hello there."),
        image_request(2, 3, text="Compare them, please."),
        chat_request("A longer prompt without an image.", sampling=SEEDED),
        image_request(2, n=2, max_tokens=7),
        image_request(3, sampling=Sampling(temperature=0.0, repetition_penalty=1.3, presence_penalty=0.5)),
        image_request(1, text="Again.", sampling=Sampling(temperature=0.8, top_p=0.9, seed=9, logit_bias={5: 3.0})),
    ]
    alone = [generate_one(model, request).texts for request in requests]
    loop = EngineLoop(model)
    outputs = []
    for number, each in enumerate(requests):
        outputs.append(loop.add(each))
        if number % requests_per_step == 0:
            loop.step()
    loop.run()
    assert [each.texts for each in outputs] == alone


@pytest.fixture(scope="module")
def limited(tiny_qwen: Path) -> Iterator[TextModel]:
    """A model with a prefill chunk of 3 tokens, a small context and image limit, and no prefix cache."""
    options = {"max_image_pixels": 10_000, "disable_auto_resize": True, "context_length": 60}
    model = load(tiny_qwen, prefill_step_size=3, prompt_cache_bytes=0, **options)
    yield model
    model.close()


def test_chunked_prefill_does_not_change_the_output(limited: TextModel, qwen: TextModel) -> None:
    for request in (
        image_request(1, 2, text="Compare them."),
        chat_request("A prompt of some length, without an image."),
    ):
        in_chunks = generate_one(limited, request)
        assert len(in_chunks.prefill_progress) > 3
        assert in_chunks.text == generate_one(qwen, request).text


def test_deepstack_features_match_their_tokens_in_every_chunk(deepstack: TextModel) -> None:
    def unchunked(**changed: object) -> float:
        """The log-probability of the most likely first token, with prefill in one pass."""
        loaded, inputs = parts(deepstack)[0], processed(deepstack, request)
        grid = {"image_grid_thw": inputs["image_grid_thw"]}
        features = loaded._features(inputs["input_ids"], inputs["pixel_values"], None, grid)
        logits = loaded.language_model(inputs["input_ids"], **(features | changed)).logits[0, -1]
        return float((logits - mx.logsumexp(logits)).max())

    request = image_request(1, 2, text="Compare them.")
    expected = unchunked()
    assert unchunked(deepstack_visual_embeds=None) != pytest.approx(expected, abs=1e-3)
    for _ in ("chunked", "from the cache"):
        assert token_logprobs(deepstack, request)[0] == pytest.approx(expected, abs=1e-3)
    generate_one(deepstack, image_request(1, 3, text="Compare them."))
    assert token_logprobs(deepstack, request)[0] == pytest.approx(expected, abs=1e-3)


def test_sequences_keep_their_positions_while_others_prefill(glm4v: TextModel) -> None:
    def logprobs(output: RequestOutput) -> list[float]:
        return [each.chosen.logprob for each in output.logprobs[0]]

    messages: list[Any] = [look(1), "Hello there, you.", look(2, 1), "Hi."]
    requests = [chat_request(each, sampling=SEEDED, top_logprobs=0) for each in messages]
    alone = [logprobs(generate_one(glm4v, request)) for request in requests]
    loop = EngineLoop(glm4v)
    outputs = []
    for request in requests:
        outputs.append(loop.add(request))
        for _ in range(3):
            loop.step()
    loop.run()
    for output, expected in zip(outputs, alone, strict=True):
        assert logprobs(output) == pytest.approx(expected, abs=1e-3)


def test_a_model_that_prefills_whole_prompts_runs_one_request_at_a_time(tmp_path: Path) -> None:
    model = load(write_tiny_paligemma(tmp_path / "paligemma"))
    try:
        assert model.concurrency == 1
        first, second, again = (token_logprobs(model, image_request(seed)) for seed in (1, 2, 1))
        assert first == again
        assert first != pytest.approx(second, abs=1e-3)
        assert generate_one(model, image_request(1)).cached_tokens == 0
        assert generate_one(model, chat_request("Hello", max_tokens=3)).completion_tokens == 3
        with pytest.raises(InvalidRequestError, match=r"^n: 2.*1"):
            generate_one(model, image_request(1, n=2))
    finally:
        model.close()


def test_image_tokens_that_attend_to_each_other_are_prefilled_in_one_pass(tiny_gemma: Path, gemma: TextModel) -> None:
    chunked = load(tiny_gemma, prefill_step_size=3, prompt_cache_bytes=0)
    try:
        request = image_request(1, text="Look.")
        assert generate_one(chunked, request).text == generate_one(gemma, request).text
        assert len(parts(chunked)[0].feature_cache) == 0
    finally:
        chunked.close()


def test_different_images_never_share_a_cache_entry(model: TextModel) -> None:
    first, other = (token_logprobs(model, image_request(seed, text="Same words.")) for seed in (11, 12))
    assert other != pytest.approx(first, abs=1e-3)
    assert token_logprobs(model, image_request(11, text="Same words.")) == pytest.approx(first, abs=1e-3)
    outputs = [generate_one(model, image_request(seed, text="Same words.")) for seed in (13, 14, 13)]
    # The tokens before the image and those of the generation prompt are the same.
    assert [each.cached_tokens <= 8 for each in outputs] == [True, True, False]
    assert outputs[2].cached_tokens >= outputs[2].prompt_tokens - 8


def test_the_next_turn_prefills_new_tokens_only(model: TextModel) -> None:
    first = image_request(21, text="Hello?", sampling=Sampling(temperature=0.0))
    output = generate_one(model, first)
    messages = [*first.messages, {"role": "assistant", "content": output.text}, {"role": "user", "content": "And now?"}]
    warm = generate_one(model, chat_request(messages, sampling=SEEDED))
    assert warm.cached_tokens > output.prompt_tokens - 8
    other = [*look(22, text="Hello?"), *messages[1:]]
    assert generate_one(model, chat_request(other, sampling=SEEDED)).cached_tokens <= 8


def test_a_new_image_in_the_next_turn_is_used(model: TextModel) -> None:
    messages = [*look(31), {"role": "assistant", "content": "A cat."}]
    generate_one(model, chat_request([*messages, *look(32)]))
    warm = token_logprobs(model, chat_request([*messages, *look(33)]))
    model._prefix_cache.clear()
    assert token_logprobs(model, chat_request([*messages, *look(33)])) == pytest.approx(warm, abs=1e-3)


def test_adjacent_images_have_separate_placeholder_runs(model: TextModel) -> None:
    assert parts(model)[1]._separate


def test_image_features_are_cached(gemma: TextModel) -> None:
    before = len(parts(gemma)[0].feature_cache)
    first = token_logprobs(gemma, image_request(41))
    assert len(parts(gemma)[0].feature_cache) == before + 1
    gemma._prefix_cache.clear()
    assert token_logprobs(gemma, image_request(41)) == first
    assert len(parts(gemma)[0].feature_cache) == before + 1
    generate_one(gemma, image_request(42, 41, max_tokens=1))
    generate_one(gemma, image_request(41, 42, max_tokens=1))
    assert len(parts(gemma)[0].feature_cache) == before + 3


def test_choices_for_an_image_differ(model: TextModel) -> None:
    output = generate_one(model, image_request(1, n=3))
    assert len(set(output.texts.values())) == 3
    assert output.texts[0] == generate_one(model, image_request(1)).text


def test_logprobs_have_the_top_candidates(qwen: TextModel) -> None:
    output = generate_one(qwen, image_request(1, sampling=Sampling(temperature=0.0), top_logprobs=3, max_tokens=4))
    assert [len(each.top) for each in output.logprobs[0]] == [3] * 4
    for each in output.logprobs[0]:
        assert each.chosen == each.top[0]
        assert -20 < each.chosen.logprob <= 0


def test_cancelling_during_prefill_does_not_affect_other_requests(qwen: TextModel) -> None:
    kept, cancelled = image_request(1), image_request(2, 3)
    alone = generate_one(qwen, kept).text
    for steps in range(1, 6):
        loop = EngineLoop(qwen)
        cancelled_output, output = loop.add(cancelled), loop.add(kept)
        for _ in range(steps):
            loop.step()
        loop.cancel(cancelled_output)
        loop.run()
        assert output.text == alone


class TestRejectedRequests:
    def rejection(self, model: TextModel, *parts: object) -> InvalidRequestError:
        with pytest.raises(InvalidRequestError) as error:
            generate_one(model, chat_request([{"role": "user", "content": list(parts)}]))
        assert error.value.param == "messages"
        return error.value

    def test_a_file_that_is_not_an_image_is_rejected(self, qwen: TextModel) -> None:
        message = str(self.rejection(qwen, {"type": "text", "text": "?"}, image_part(data_url(b"hello"))))
        assert message.startswith("messages[0].content[1]: the file is not an image")

    def test_audio_is_rejected_by_a_model_without_audio(self, qwen: TextModel) -> None:
        message = str(self.rejection(qwen, audio_part(tone(300.0))))
        assert all(fact in message for fact in ("messages[0].content[0]", "'input_audio'", "text, image_url"))

    @pytest.mark.parametrize("size", [(1, 1), (1, 300), (2000, 3)])
    def test_an_image_with_an_extreme_aspect_ratio_is_accepted_or_rejected(
        self, model: TextModel, size: tuple[int, int]
    ) -> None:
        request = chat_request([{"role": "user", "content": [image_part(image_url(1, size))]}], max_tokens=2)
        try:
            assert generate_one(model, request).completion_tokens == 2
        except InvalidRequestError as error:
            assert "reject" in str(error)  # noqa: PT017  either is right

    @pytest.mark.parametrize(
        ("fixture", "placeholder"),
        [("qwen", "<|image_pad|>"), ("deepstack", "<|image_pad|>"), ("gemma", "<image_soft_token>")],
    )
    def test_placeholders_in_the_text_of_prompts_with_images_are_rejected(
        self, request: pytest.FixtureRequest, fixture: str, placeholder: str
    ) -> None:
        model: TextModel = request.getfixturevalue(fixture)
        message = str(self.rejection(model, *look(1)[0]["content"], {"type": "text", "text": f"a {placeholder} b"}))
        assert repr(placeholder) in message
        assert generate_one(model, chat_request(placeholder, max_tokens=2)).completion_tokens == 2

    def test_images_beyond_the_context_length_are_rejected(self, limited: TextModel) -> None:
        with pytest.raises(ContextLengthExceededError, match="60 tokens"):
            generate_one(limited, image_request(1, 2, 3, 4, 5))

    def test_a_prompt_beyond_the_context_length_logs_nothing(
        self, limited: TextModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
        with pytest.raises(ContextLengthExceededError, match="60 tokens"):
            generate_one(limited, image_request(1, text="word " * 9000))
        assert caplog.messages == []

    def test_a_large_image_is_rejected_without_resizing(self, limited: TextModel) -> None:
        large = image_part(image_url(1, (101, 100)))
        rejection = self.rejection(limited, large)
        assert rejection.code == "image_too_large"
        assert "101x100" in str(rejection)
        large["image_url"]["detail"] = "low"
        request = chat_request([{"role": "user", "content": [large]}], max_tokens=1)
        assert generate_one(limited, request).completion_tokens == 1


def test_a_text_only_model_rejects_images(tiny_text_only: Path) -> None:
    model = load(tiny_text_only)
    try:
        assert generate_one(model, chat_request("Hello", max_tokens=3)).completion_tokens == 3
        with pytest.raises(InvalidRequestError, match="--backend vlm"):
            generate_one(model, image_request(1))
        with pytest.raises(UnsupportedRequestError):
            list(model.generate(EmbeddingRequest(id="e", model="m", inputs=[""], images=[image_url(1)])))
    finally:
        model.close()


def test_echoed_logprobs_do_not_depend_on_chunks_or_earlier_prompts(glm4v: TextModel) -> None:
    tokens = glm4v._tokenizer.encode("Once upon a time there was a cat.")
    generate_one(glm4v, image_request(1, max_tokens=1))
    unchunked = mx.concatenate(list(parts(glm4v)[0].next_logprobs(tokens, 100)))
    generate_one(glm4v, image_request(2, 1, max_tokens=1))
    assert mx.allclose(mx.concatenate(list(parts(glm4v)[0].next_logprobs(tokens, 3))), unchunked, atol=1e-3)


def test_requests_that_start_together_equal_single_ones(model: TextModel) -> None:
    """Their prompts are prefilled one after the other, and they decode together."""
    texts = [each.text for each in generate(model, *(image_request(seed) for seed in (1, 2, 3)))]
    assert texts == [generate_one(model, image_request(seed)).text for seed in (1, 2, 3)]

from __future__ import annotations

from pathlib import Path

import pytest
from mlx_host.events import Finished, Started, iter_events
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import GREEDY, EngineLoop, chat_request, generate, generate_one, load

PROMPTS = ["Tell me about rivers.", "Why?", "Count to ten, slowly, and then back again, please.", "One word: blue?"]


def test_greedy_output_is_deterministic(model: TextModel) -> None:
    first, second = (generate_one(model, chat_request(PROMPTS[0])) for _ in range(2))
    assert first.text
    assert first.text == second.text


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_sliding", "tiny_lfm2"])
def test_batched_output_equals_single_output(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    model = load(folder, prompt_cache_bytes=0)
    alone = [generate_one(model, chat_request(prompt, max_tokens=40)).text for prompt in PROMPTS]
    together = [each.text for each in generate(model, *(chat_request(prompt, max_tokens=40) for prompt in PROMPTS))]
    assert together == alone


def test_requests_can_join_and_leave_at_any_step(model: TextModel) -> None:
    alone = [generate_one(model, chat_request(prompt, max_tokens=10 + 7 * i)).text for i, prompt in enumerate(PROMPTS)]
    loop = EngineLoop(model)
    outputs = []
    for i, prompt in enumerate(PROMPTS):
        outputs.append(loop.add(chat_request(prompt, max_tokens=10 + 7 * i)))
        for _ in range(3 * i):
            loop.step()
    loop.run()
    assert [each.text for each in outputs] == alone


def test_requests_beyond_the_batch_size_are_queued(model: TextModel) -> None:
    outputs = generate(model, *(chat_request(f"Number {i}", max_tokens=3, n=2) for i in range(model.concurrency)))
    assert [each.completion_tokens for each in outputs] == [6] * model.concurrency


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 9])
def test_cancelling_does_not_affect_other_requests(tiny_llama: Path, turns: int) -> None:
    model = load(tiny_llama, prefill_step_size=16, prompt_cache_bytes=0)
    long_prompt = "words " * 100
    alone = generate_one(model, chat_request(PROMPTS[0], max_tokens=30)).text
    loop = EngineLoop(model)
    other = loop.add(chat_request(PROMPTS[0], max_tokens=30))
    cancelled = loop.add(chat_request(long_prompt, n=2))
    for _ in range(turns):
        loop.step()
    assert cancelled.finished is None
    loop.cancel(cancelled)
    loop.run()
    assert other.text == alone


def test_cancelling_all_requests_empties_the_batch(model: TextModel) -> None:
    expected = generate_one(model, chat_request(PROMPTS[0])).text
    loop = EngineLoop(model)
    for prompt in PROMPTS:
        output = loop.add(chat_request(prompt))
        loop.step()
        loop.step()
        loop.cancel(output)
    assert model._loop._batch is not None
    assert model._loop._batch.nbytes == 0
    assert generate_one(model, chat_request(PROMPTS[0])).text == expected


def test_an_idle_generator_does_not_block_other_requests(model: TextModel) -> None:
    idle = model.generate(chat_request("Hello."))
    assert isinstance(next(idle), Started)
    assert generate_one(model, chat_request(PROMPTS[1])).completion_tokens == 16
    idle.close()  # type: ignore[attr-defined]


def test_a_slow_consumer_receives_every_token(model: TextModel) -> None:
    expected = generate_one(model, chat_request(PROMPTS[0], max_tokens=20))
    slow = model.generate(chat_request(PROMPTS[0], max_tokens=20))
    events = [next(slow)]
    generate_one(model, chat_request(PROMPTS[2], max_tokens=40))
    events += list(slow)
    flat = [each for event in events if event is not None for each in iter_events(event)]
    assert "".join(getattr(event, "text", "") for event in flat) == expected.text
    assert flat[-1] == Finished(reason="length", completion_tokens=20)


def test_prefill_chunks_alternate_with_decoding_steps(tiny_llama: Path) -> None:
    model = load(tiny_llama, prefill_step_size=32, prompt_cache_bytes=0)
    loop = EngineLoop(model)
    decoding = loop.add(chat_request(PROMPTS[0], max_tokens=60))
    while not decoding.deltas:
        loop.step()
    deltas_before = len(decoding.deltas)
    prefilling = loop.add(chat_request("words " * 200))
    while not prefilling.deltas:
        loop.step()
    done = [each.done for each in prefilling.prefill_progress]
    assert done == sorted(set(done))
    assert done[:3] == [32, 64, 96]
    assert done[-1] == prefilling.prompt_tokens
    assert {each.total for each in prefilling.prefill_progress} == {prefilling.prompt_tokens}
    assert len(decoding.deltas) - deltas_before >= len(done) - 1
    loop.run()


class TestSeveralChoices:
    def test_greedy_choices_are_equal(self, model: TextModel) -> None:
        one = generate_one(model, chat_request(PROMPTS[0]))
        three = generate_one(model, chat_request(PROMPTS[0], n=3))
        assert three.texts == {0: one.text, 1: one.text, 2: one.text}
        assert three.completion_tokens == 3 * one.completion_tokens

    def test_the_prompt_is_prefilled_once(self, tiny_llama: Path) -> None:
        model = load(tiny_llama, prompt_cache_bytes=0)
        output = generate_one(model, chat_request(PROMPTS[0], n=4))
        assert [each.done for each in output.prefill_progress] == [
            output.prompt_tokens - 1,
            output.prompt_tokens,
        ]
        assert sorted(output.texts) == [0, 1, 2, 3]

    @pytest.mark.parametrize("kind", ["tiny_sliding", "tiny_lfm2"])
    def test_caches_that_cannot_be_trimmed_are_forked(self, kind: str, request: pytest.FixtureRequest) -> None:
        folder: Path = request.getfixturevalue(kind)
        one = generate_one(load(folder), chat_request("words " * 50 + PROMPTS[0]))
        # Another model, without a cached prefix.
        forked = generate_one(load(folder), chat_request("words " * 50 + PROMPTS[0], n=3))
        assert set(forked.texts.values()) == {one.text}

    def test_choice_finished_is_sent_for_all_but_the_last_choice(self, model: TextModel) -> None:
        output = generate_one(model, chat_request(PROMPTS[0], n=3, sampling=GREEDY, max_tokens=5))
        assert len(output.reasons) == 2
        assert set(output.reasons.values()) == {"length"}

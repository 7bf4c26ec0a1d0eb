from __future__ import annotations

from pathlib import Path

import pytest
from mlx_host.events import Finished, Started, iter_events
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import GREEDY, Round, answer, answer_one, ask, load

QUESTIONS = ["Tell me about rivers.", "Why?", "Count to ten, slowly, and then back again, please.", "One word: blue?"]


def test_greedy_answers_repeat(model: TextModel) -> None:
    first, second = (answer_one(model, ask(QUESTIONS[0])) for _ in range(2))
    assert first.text
    assert first.text == second.text


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_sliding", "tiny_lfm2"])
def test_a_batch_answers_as_each_would_alone(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    model = load(folder, prompt_cache_bytes=0)
    alone = [answer_one(model, ask(question, max_tokens=40)).text for question in QUESTIONS]
    together = [
        iter_events.text for iter_events in answer(model, *(ask(question, max_tokens=40) for question in QUESTIONS))
    ]
    assert together == alone


def test_requests_join_and_leave_at_any_step(model: TextModel) -> None:
    alone = [answer_one(model, ask(question, max_tokens=10 + 7 * i)).text for i, question in enumerate(QUESTIONS)]
    running = Round(model)
    answers = []
    for i, question in enumerate(QUESTIONS):
        answers.append(running.join(ask(question, max_tokens=10 + 7 * i)))
        for _ in range(3 * i):
            running.turn()
    running.finish()
    assert [iter_events.text for iter_events in answers] == alone


def test_more_requests_than_the_batch_holds_all_get_answers(model: TextModel) -> None:
    answers = answer(model, *(ask(f"Number {i}", max_tokens=3, n=2) for i in range(model.concurrency)))
    assert [iter_events.completion_tokens for iter_events in answers] == [6] * model.concurrency


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 9])
def test_cancelling_leaves_the_neighbours_alone(tiny_llama: Path, turns: int) -> None:
    model = load(tiny_llama, prefill_step_size=16, prompt_cache_bytes=0)
    long_question = "words " * 100
    alone = answer_one(model, ask(QUESTIONS[0], max_tokens=30)).text
    running = Round(model)
    neighbour = running.join(ask(QUESTIONS[0], max_tokens=30))
    cancelled = running.join(ask(long_question, n=2))
    for _ in range(turns):
        running.turn()
    assert cancelled.finished is None
    running.leave(cancelled)
    running.finish()
    assert neighbour.text == alone


def test_cancelling_everything_leaves_a_model_that_works(model: TextModel) -> None:
    expected = answer_one(model, ask(QUESTIONS[0])).text
    running = Round(model)
    for question in QUESTIONS:
        answered = running.join(ask(question))
        running.turn()
        running.turn()
        running.leave(answered)
    assert model._loop._batch is not None
    assert model._loop._batch.nbytes == 0
    assert answer_one(model, ask(QUESTIONS[0])).text == expected


def test_a_request_that_is_never_advanced_does_not_hold_up_the_others(model: TextModel) -> None:
    idle = model.generate(ask("I am here."))
    assert isinstance(next(idle), Started)
    assert answer_one(model, ask(QUESTIONS[1])).completion_tokens == 16
    idle.close()  # type: ignore[attr-defined]


def test_a_slow_reader_gets_every_token(model: TextModel) -> None:
    expected = answer_one(model, ask(QUESTIONS[0], max_tokens=20))
    slow = model.generate(ask(QUESTIONS[0], max_tokens=20))
    turns = [next(slow)]
    answer_one(model, ask(QUESTIONS[2], max_tokens=40))
    turns += list(slow)
    events = [event for said in turns if said is not None for event in iter_events(said)]
    assert "".join(getattr(event, "text", "") for event in events) == expected.text
    assert events[-1] == Finished(reason="length", completion_tokens=20)


def test_a_prompt_is_read_in_chunks_between_the_steps_of_others(tiny_llama: Path) -> None:
    model = load(tiny_llama, prefill_step_size=32, prompt_cache_bytes=0)
    running = Round(model)
    talking = running.join(ask(QUESTIONS[0], max_tokens=60))
    for _ in range(4):
        running.turn()
    said = len(talking.pieces)
    reading = running.join(ask("words " * 200))
    while not reading.pieces:
        running.turn()
    done = [iter_events.done for iter_events in reading.prefilled]
    assert done == sorted(set(done))
    assert done[:3] == [32, 64, 96]
    assert done[-1] == reading.prompt_tokens
    assert {iter_events.total for iter_events in reading.prefilled} == {reading.prompt_tokens}
    assert len(talking.pieces) - said >= len(done) - 1
    running.finish()


class TestSeveralAnswers:
    def test_greedy_ones_are_all_the_same(self, model: TextModel) -> None:
        one = answer_one(model, ask(QUESTIONS[0]))
        three = answer_one(model, ask(QUESTIONS[0], n=3))
        assert three.texts == {0: one.text, 1: one.text, 2: one.text}
        assert three.completion_tokens == 3 * one.completion_tokens

    def test_the_prompt_is_read_once(self, tiny_llama: Path) -> None:
        model = load(tiny_llama, prompt_cache_bytes=0)
        answered = answer_one(model, ask(QUESTIONS[0], n=4))
        assert [iter_events.done for iter_events in answered.prefilled] == [
            answered.prompt_tokens - 1,
            answered.prompt_tokens,
        ]
        assert sorted(answered.texts) == [0, 1, 2, 3]

    @pytest.mark.parametrize("kind", ["tiny_sliding", "tiny_lfm2"])
    def test_caches_that_cannot_be_cut_split_too(self, kind: str, request: pytest.FixtureRequest) -> None:
        model = load(request.getfixturevalue(kind))
        one = answer_one(model, ask("words " * 50 + QUESTIONS[0]))
        model.close()
        assert set(answer_one(model, ask("words " * 50 + QUESTIONS[0], n=3)).texts.values()) == {one.text}

    def test_all_but_the_last_say_that_they_are_finished(self, model: TextModel) -> None:
        answered = answer_one(model, ask(QUESTIONS[0], n=3, sampling=GREEDY, max_tokens=5))
        assert len(answered.reasons) == 2
        assert set(answered.reasons.values()) == {"length"}

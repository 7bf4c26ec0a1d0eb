"""The text backend with a model that makes sense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlx_host.requests import Json
from mlx_host_demo.plugin import resolve_source
from mlx_host_lm.model import LanguageModel

from tests.plugins.lm.driver import Round, answer, answer_one, ask, load, no_progress

QUESTIONS = ["What is the capital of France?", "Name a colour.", "What comes after Monday, and what comes after that?"]


@pytest.fixture(scope="module")
def folder() -> Path:
    source = resolve_source("demo:smollm2")
    assert source is not None
    return source.fetch(no_progress)


@pytest.fixture
def smollm2(folder: Path) -> Iterator[LanguageModel]:
    model = load(folder)
    yield model
    model.close()


def test_it_knows_the_capital_of_france_and_remembers_being_asked(smollm2: LanguageModel) -> None:
    messages: list[Json] = [{"role": "user", "content": QUESTIONS[0]}]
    first = answer_one(smollm2, ask(messages, max_tokens=30))
    assert "Paris" in first.text
    assert first.reason == "stop"
    messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "And of Italy?"}]
    second = answer_one(smollm2, ask(messages, max_tokens=12))
    assert "Rome" in second.text
    assert second.cached_tokens >= first.prompt_tokens + first.completion_tokens - 1


def test_a_batch_whose_requests_come_and_go_answers_as_each_would_alone(folder: Path) -> None:
    model = load(folder, prompt_cache_bytes=0)
    alone = [answer_one(model, ask(question, max_tokens=16)).text for question in QUESTIONS]
    together = answer(model, *(ask(question, max_tokens=16) for question in QUESTIONS))
    assert [each.text for each in together] == alone
    running = Round(model)
    answers = []
    for question in QUESTIONS:
        answers.append(running.join(ask(question, max_tokens=16)))
        for _ in range(5):
            running.turn()
    running.finish()
    assert [each.text for each in answers] == alone
    assert [each.text for each in answer(model, ask(QUESTIONS[0], n=2, max_tokens=16))] == alone[:1]

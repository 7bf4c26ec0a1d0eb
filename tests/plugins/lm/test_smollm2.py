"""The text backend with a model that makes sense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlx_host.requests import CompletionRequest, Json
from mlx_host_demo.plugin import resolve_source
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import GREEDY, Round, answer_one, ask, ids, load, no_progress

# Short, for reading takes most of the time.
BEGINNINGS = ["The capital of France is", "One, two, three,", "Roses are red,"]


@pytest.fixture(scope="module")
def folder() -> Path:
    source = resolve_source("demo:smollm2")
    assert source is not None
    return source.fetch(no_progress)


@pytest.fixture
def smollm2(folder: Path) -> Iterator[TextModel]:
    model = load(folder)
    yield model
    model.close()


def test_it_knows_the_capital_of_france_and_remembers_being_asked(smollm2: TextModel) -> None:
    messages: list[Json] = [{"role": "user", "content": "What is the capital of France?"}]
    first = answer_one(smollm2, ask(messages, max_tokens=30))
    assert "Paris" in first.text
    assert first.reason == "stop"
    messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "And of Italy?"}]
    second = answer_one(smollm2, ask(messages, max_tokens=12))
    assert "Rome" in second.text
    assert second.cached_tokens >= first.prompt_tokens + first.completion_tokens - 1


def go_on(beginning: str, n: int = 1) -> CompletionRequest:
    return CompletionRequest(id=f"r{next(ids)}", model="m", prompt=beginning, sampling=GREEDY, max_tokens=8, n=n)


def test_a_batch_whose_requests_come_and_go_answers_as_each_would_alone(folder: Path) -> None:
    model = load(folder, prompt_cache_bytes=0)
    alone = [answer_one(model, go_on(beginning)).text for beginning in BEGINNINGS]
    running = Round(model)
    answers = []
    for n, beginning in enumerate(BEGINNINGS, start=1):
        answers.append(running.join(go_on(beginning, n)))
        for _ in range(3):
            running.turn()
    assert not any(each.finished for each in answers)
    running.finish()
    model.close()
    for n, (answered, text) in enumerate(zip(answers, alone, strict=True), start=1):
        assert answered.texts == dict.fromkeys(range(n), text)

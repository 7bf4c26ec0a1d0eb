from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlx_host.errors import EngineError, InvalidRequestError
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel
from mlx_host_text.sampling import SamplerFactory, SamplingSettings, greedy

from tests.plugins.lm.driver import GREEDY, Round, answer_one, ask, load


class FaultySamplers(SamplerFactory):
    """Draws like the real ones until, for requests with a seed, the third token."""

    def sampler(self, settings: SamplingSettings, seed: int | None, choice: int) -> Callable[[Any], Any]:
        if seed is None:
            return super().sampler(settings, seed, choice)
        drawn = 0

        def draw(logprobs: Any) -> Any:
            nonlocal drawn
            drawn += 1
            if drawn == 3:
                raise RuntimeError("no memory left")
            return greedy(logprobs)

        return draw


@pytest.fixture
def faulty(model: TextModel) -> TextModel:
    model._samplers = FaultySamplers([])
    return model


BREAKING = Sampling(temperature=1.0, seed=1)


def test_a_failing_batch_fails_all_its_requests_and_none_after(faulty: TextModel) -> None:
    expected = answer_one(faulty, ask("Before")).text
    generators = [
        faulty.generate(ask(text, sampling=sampling, max_tokens=40))
        for text, sampling in (("One", GREEDY), ("Two", BREAKING), ("Three", GREEDY))
    ]
    failures: list[EngineError] = []
    open_ones = list(generators)
    while open_ones:
        for generator in list(open_ones):
            try:
                next(generator)
            except EngineError as failure:
                failures.append(failure)
                open_ones.remove(generator)
    assert len(failures) == 3
    assert all("no memory left" in str(failure) for failure in failures)
    assert answer_one(faulty, ask("Before")).text == expected


def test_nothing_that_a_failed_batch_left_is_used_again(faulty: TextModel) -> None:
    with pytest.raises(EngineError):
        answer_one(faulty, ask("words " * 50, sampling=BREAKING))
    assert answer_one(faulty, ask("words " * 50)).cached_tokens == 0


def test_closing_after_a_failure_is_fine(faulty: TextModel) -> None:
    running = Round(faulty)
    bystander = running.join(ask("Hi", max_tokens=40))
    running.turn()
    with pytest.raises(EngineError):
        answer_one(faulty, ask(sampling=BREAKING))
    running.leave(bystander)
    faulty.close()


def test_a_refused_request_disturbs_nobody(model: TextModel) -> None:
    expected = answer_one(model, ask(max_tokens=30)).text
    running = Round(model)
    neighbour = running.join(ask(max_tokens=30))
    for _ in range(4):
        running.turn()
    for bad in (ask([]), ask(sampling=Sampling(logit_bias={-1: 1.0})), ask("words " * 10000)):
        with pytest.raises(InvalidRequestError):
            answer_one(model, bad)
    running.finish()
    assert neighbour.text == expected


def test_a_closed_model_can_be_loaded_anew(tiny_llama: Path) -> None:
    first = load(tiny_llama)
    text = answer_one(first, ask()).text
    first.close()
    assert answer_one(load(tiny_llama), ask()).text == text

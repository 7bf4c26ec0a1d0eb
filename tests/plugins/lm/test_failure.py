from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlx_host.errors import EngineError, InvalidRequestError
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel
from mlx_host_text.sampling import SamplerFactory, SamplingSettings, greedy

from tests.plugins.lm.driver import GREEDY, EngineLoop, chat_request, generate_one, load


class FaultySamplers(SamplerFactory):
    """Samplers that fail at the third token of requests with a seed."""

    def sampler(self, settings: SamplingSettings, seed: int | None, choice: int) -> Callable[[Any], Any]:
        if seed is None:
            return super().sampler(settings, seed, choice)
        count = 0

        def sample(logprobs: Any) -> Any:
            nonlocal count
            count += 1
            if count == 3:
                raise RuntimeError("no memory left")
            return greedy(logprobs)

        return sample


@pytest.fixture
def faulty(model: TextModel) -> TextModel:
    model._samplers = FaultySamplers([])
    return model


FAILING = Sampling(temperature=1.0, seed=1)


def test_a_failed_step_fails_the_requests_of_its_batch_only(faulty: TextModel) -> None:
    expected = generate_one(faulty, chat_request("Before")).text
    generators = [
        faulty.generate(chat_request(text, sampling=sampling, max_tokens=40))
        for text, sampling in (("One", GREEDY), ("Two", FAILING), ("Three", GREEDY))
    ]
    failures: list[EngineError] = []
    running = list(generators)
    while running:
        for generator in list(running):
            try:
                next(generator)
            except EngineError as failure:
                failures.append(failure)
                running.remove(generator)
    assert len(failures) == 3
    assert all("no memory left" in str(failure) for failure in failures)
    assert generate_one(faulty, chat_request("Before")).text == expected


def test_a_failure_clears_the_prefix_cache(faulty: TextModel) -> None:
    with pytest.raises(EngineError):
        generate_one(faulty, chat_request("words " * 50, sampling=FAILING))
    assert generate_one(faulty, chat_request("words " * 50)).cached_tokens == 0


def test_a_model_can_be_closed_after_a_failure(tiny_llama: Path) -> None:
    faulty = load(tiny_llama)
    faulty._samplers = FaultySamplers([])
    loop = EngineLoop(faulty)
    other = loop.add(chat_request("Hi", max_tokens=40))
    loop.step()
    with pytest.raises(EngineError):
        generate_one(faulty, chat_request(sampling=FAILING))
    loop.cancel(other)
    faulty.close()


def test_a_rejected_request_does_not_affect_others(model: TextModel) -> None:
    expected = generate_one(model, chat_request(max_tokens=30)).text
    loop = EngineLoop(model)
    other = loop.add(chat_request(max_tokens=30))
    for _ in range(4):
        loop.step()
    for invalid in (
        chat_request([]),
        chat_request(sampling=Sampling(logit_bias={-1: 1.0})),
        chat_request("words " * 10000),
    ):
        with pytest.raises(InvalidRequestError):
            generate_one(model, invalid)
    loop.run()
    assert other.text == expected


def test_a_model_can_be_loaded_again_after_close(tiny_llama: Path) -> None:
    first = load(tiny_llama)
    text = generate_one(first, chat_request()).text
    first.close()
    assert generate_one(load(tiny_llama), chat_request()).text == text

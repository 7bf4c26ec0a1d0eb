"""The text backend with a real model, SmolLM2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlx_host.requests import CompletionRequest, Json
from mlx_host_demo.plugin import resolve_source
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import GREEDY, EngineLoop, chat_request, generate_one, load, no_progress, request_ids

# Short, because prefill takes most of the time.
PROMPTS = ["The capital of France is", "One, two, three,", "Roses are red,"]


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


def test_a_conversation_reuses_the_cached_turns(smollm2: TextModel) -> None:
    messages: list[Json] = [{"role": "user", "content": "What is the capital of France?"}]
    first = generate_one(smollm2, chat_request(messages, max_tokens=30))
    assert "Paris" in first.text
    assert first.reason == "stop"
    messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "And of Italy?"}]
    second = generate_one(smollm2, chat_request(messages, max_tokens=12))
    assert "Rome" in second.text
    assert second.cached_tokens >= first.prompt_tokens + first.completion_tokens - 1


def completion(prompt: str, n: int = 1) -> CompletionRequest:
    return CompletionRequest(id=f"r{next(request_ids)}", model="m", prompt=prompt, sampling=GREEDY, max_tokens=8, n=n)


def test_staggered_requests_have_the_same_output_as_single_ones(folder: Path) -> None:
    model = load(folder, prompt_cache_bytes=0)
    alone = [generate_one(model, completion(prompt)).text for prompt in PROMPTS]
    loop = EngineLoop(model)
    outputs = []
    for n, prompt in enumerate(PROMPTS, start=1):
        outputs.append(loop.add(completion(prompt, n)))
        for _ in range(3):
            loop.step()
    assert not any(each.finished for each in outputs)
    loop.run()
    model.close()
    for n, (output, text) in enumerate(zip(outputs, alone, strict=True), start=1):
        assert output.texts == dict.fromkeys(range(n), text)

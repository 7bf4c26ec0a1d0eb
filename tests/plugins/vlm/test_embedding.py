"""Embeddings of texts and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.events import EmbeddingBatch, Event, Started
from mlx_host.requests import EmbeddingRequest
from mlx_host.testing.model_contract import run_alone
from mlx_host_text.model import TextModel

from tests.support.media import data_url, image_url

Vectors = np.ndarray[Any, np.dtype[np.float32]]


def embed(model: TextModel, inputs: Sequence[str], images: Sequence[str] = ()) -> tuple[Vectors, int]:
    events: list[Event] = run_alone(model, EmbeddingRequest(id="e", model="m", inputs=inputs, images=images))
    rows: dict[int, Vectors] = {}
    for event in events:
        if isinstance(event, EmbeddingBatch):
            vectors = np.frombuffer(event.vectors, "<f4").reshape(len(event.indices), -1)
            rows |= dict(zip(event.indices, vectors, strict=True))
    assert isinstance(events[0], Started)
    return np.stack([rows[index] for index in range(len(inputs))]), events[0].prompt_tokens


@pytest.fixture(params=["qwen", "gemma"])
def model(request: pytest.FixtureRequest) -> TextModel:
    model: TextModel = request.getfixturevalue(request.param)
    return model


def test_texts_have_unit_vectors_alone_and_in_a_batch(model: TextModel) -> None:
    together, _ = embed(model, ["a cat", "a much longer text about dogs", "x"])
    assert np.linalg.norm(together, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    alone, _ = embed(model, ["a cat"])
    assert np.allclose(together[0], alone[0], atol=1e-4)


def test_vectors_depend_on_image_and_text(model: TextModel) -> None:
    images = [image_url(1), image_url(2), image_url(1), image_url(1)]
    (first, second, again, with_text), tokens = embed(model, ["", "", "", "red"], images)
    assert np.allclose(first, again, atol=1e-5)
    assert not np.allclose(first, second, atol=1e-3)
    assert not np.allclose(first, with_text, atol=1e-3)
    assert tokens > 4 * 4


def test_an_invalid_image_is_located(model: TextModel) -> None:
    with pytest.raises(InvalidRequestError, match=r"^image_url\[1\]: ") as error:
        embed(model, ["", ""], [image_url(1), data_url(b"hello")])
    assert error.value.param == "image_url"


def test_a_text_with_an_image_placeholder_is_rejected(qwen: TextModel) -> None:
    with pytest.raises(InvalidRequestError, match=r"<\|image_pad\|>") as error:
        embed(qwen, ["<|image_pad|>"], [image_url(1)])
    assert error.value.param == "image_url"

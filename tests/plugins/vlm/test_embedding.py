"""Vectors of texts and of pictures from a model that sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.events import EmbeddingBatch, Event, Started
from mlx_host.requests import EmbeddingRequest
from mlx_host.testing.model_contract import run_alone
from mlx_host_vlm.model import VisionModel

from tests.support.media import data_url, image_url

Vectors = np.ndarray[Any, np.dtype[np.float32]]


def embed(model: VisionModel, inputs: Sequence[str], images: Sequence[str] = ()) -> tuple[Vectors, int]:
    events: list[Event] = run_alone(model, EmbeddingRequest(id="e", model="m", inputs=inputs, images=images))
    rows: dict[int, Vectors] = {}
    for event in events:
        if isinstance(event, EmbeddingBatch):
            vectors = np.frombuffer(event.vectors, "<f4").reshape(len(event.indices), -1)
            rows |= dict(zip(event.indices, vectors, strict=True))
    assert isinstance(events[0], Started)
    return np.stack([rows[index] for index in range(len(inputs))]), events[0].prompt_tokens


@pytest.fixture(params=["qwen", "gemma"])
def model(request: pytest.FixtureRequest) -> VisionModel:
    model: VisionModel = request.getfixturevalue(request.param)
    return model


def test_texts_become_unit_vectors_whatever_stands_beside_them(model: VisionModel) -> None:
    together, _ = embed(model, ["a cat", "a much longer text about dogs", "x"])
    assert np.linalg.norm(together, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    alone, _ = embed(model, ["a cat"])
    assert np.allclose(together[0], alone[0], atol=1e-4)


def test_pictures_are_told_apart_and_so_is_the_text_beside_them(model: VisionModel) -> None:
    pictures = [image_url(1), image_url(2), image_url(1), image_url(1)]
    (first, second, again, beside), tokens = embed(model, ["", "", "", "red"], pictures)
    assert np.allclose(first, again, atol=1e-5)
    assert not np.allclose(first, second, atol=1e-3)
    assert not np.allclose(first, beside, atol=1e-3)
    assert tokens > 4 * 4


def test_a_broken_picture_is_named(model: VisionModel) -> None:
    with pytest.raises(InvalidRequestError, match=r"^image_url\[1\]: the file is not an image") as refusal:
        embed(model, ["", ""], [image_url(1), data_url(b"hello")])
    assert refusal.value.param == "image_url"
    assert model._embedder is not None
    assert model._embedder.pictures == {}


def test_a_text_with_the_mark_of_a_picture_is_refused(qwen: VisionModel) -> None:
    with pytest.raises(InvalidRequestError, match="stands for an image_url") as refusal:
        embed(qwen, ["<|image_pad|>"], [image_url(1)])
    assert refusal.value.param == "image_url"

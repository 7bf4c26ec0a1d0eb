"""A real model has the vectors of mlx-embeddings, alone and in a batch, and they reflect meaning."""

from __future__ import annotations

from typing import Any

import mlx_embeddings
import numpy as np
import pytest
from mlx_host.errors import ContextLengthExceededError, InvalidRequestError
from mlx_host.events import Started
from mlx_host.testing.model_contract import ScheduledRequest, run_together
from mlx_host_embeddings.model import EmbeddingModel
from tokenizers import Tokenizer

from tests.plugins.embeddings.driver import Vectors, embed, embedding_request, minilm, vectors_of

TEXTS = [
    "How do I get back into my account?",
    "Steps for resetting a forgotten password.",
    "The cat sat on the mat.",
    "x",
    "Ünïcödé, 東京, Привет 👩‍👩‍👧‍👦 " * 4,
    "A long passage about harbours, ships and the people who load them. " * 12,
]


@pytest.fixture(scope="module")
def reference() -> Vectors:
    """mlx-embeddings' vectors of each text alone."""
    network, tokenizer = mlx_embeddings.load(str(minilm()))
    return np.stack([np.array(mlx_embeddings.generate(network, tokenizer, text).text_embeds)[0] for text in TEXTS])


def test_single_texts_have_the_vectors_of_mlx_embeddings(model: EmbeddingModel, reference: Vectors) -> None:
    for text, expected in zip(TEXTS, reference, strict=True):
        np.testing.assert_allclose(embed(model, text)[0], expected, atol=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_vectors_do_not_depend_on_the_batch(model: EmbeddingModel, reference: Vectors, reverse: bool) -> None:
    order = list(range(len(TEXTS)))[:: -1 if reverse else 1]
    vectors = embed(model, *(TEXTS[index] for index in order))
    np.testing.assert_allclose(vectors, reference[order], atol=1e-4)


def test_concurrent_requests_receive_their_vectors(model: EmbeddingModel, reference: Vectors) -> None:
    outputs = run_together(model, [ScheduledRequest(embedding_request(text)) for text in TEXTS])
    np.testing.assert_allclose(np.concatenate([vectors_of(events) for events in outputs]), reference, atol=1e-4)


def test_vectors_are_unit_vectors_of_384_dimensions(model: EmbeddingModel) -> None:
    vectors = embed(model, *TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("How do I reset my password?", "I forgot my login and cannot get in.", "The recipe needs two eggs."),
        ("A dog runs across the field.", "A puppy is playing on the grass.", "Interest rates rose again."),
        ("The capital of France", "Paris", "photosynthesis"),
    ],
)
def test_similar_texts_are_closer(model: EmbeddingModel, text: str, near: str, far: str) -> None:
    subject, close, distant = embed(model, text, near, far)
    assert subject @ close > subject @ distant + 0.2


def test_token_ids_are_embedded_without_special_tokens(model: EmbeddingModel) -> None:
    tokenizer = Tokenizer.from_file(str(minilm() / "tokenizer.json"))
    tokenizer.no_padding()
    tokens: Any = [tokenizer.encode(text).ids for text in TEXTS[:3]]
    np.testing.assert_allclose(embed(model, *tokens), embed(model, *TEXTS[:3]), atol=1e-6)
    without_special = tokenizer.encode(TEXTS[0], add_special_tokens=False).ids
    assert not np.allclose(embed(model, without_special), embed(model, TEXTS[0]), atol=1e-3)


def test_token_counts_include_special_tokens(model: EmbeddingModel) -> None:
    started = run_together(model, [ScheduledRequest(embedding_request("hello world", [7592]))])[0][0]
    assert started == Started(prompt_tokens=4 + 1)


def test_the_context_length_is_the_trained_length(model: EmbeddingModel) -> None:
    assert model.context_length == 256
    fits, too_long = "word " * 254, "word " * 255
    assert embed(model, fits).shape == (1, 384)
    with pytest.raises(ContextLengthExceededError, match=r"256 tokens.* 257 tokens"):
        embed(model, too_long)
    np.testing.assert_allclose(embed(model, too_long, truncate=True), embed(model, fits), atol=1e-5)


def test_shortened_vectors_are_rejected(model: EmbeddingModel) -> None:
    with pytest.raises(InvalidRequestError, match=r"128.*384"):
        embed(model, "x", dimensions=128)
    assert embed(model, "x", dimensions=384).shape == (1, 384)

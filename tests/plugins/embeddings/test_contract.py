from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mlx_host.events import EmbeddingBatch, Event, Started
from mlx_host.testing import ModelContract
from mlx_host_embeddings.plugin import EMBEDDINGS

from tests.plugins.embeddings.driver import Vectors, embedding_request, minilm


class ApproximateResult:
    """Token count and vectors, equal up to float32 rounding in another order of summation."""

    def __init__(self, tokens: int, vectors: Vectors) -> None:
        self.tokens = tokens
        self.vectors = vectors

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ApproximateResult)
            and self.tokens == other.tokens
            and self.vectors.shape == other.vectors.shape
            and np.allclose(self.vectors, other.vectors, atol=1e-5)
        )

    __hash__ = None  # type: ignore[assignment]


class TestEmbeddings(ModelContract):
    backend = EMBEDDINGS
    requests = (
        embedding_request("The cat sat on the mat.", "Passwords are reset here. " * 9),
        embedding_request("hello", [101, 7592, 102], "the quick brown fox"),
        embedding_request("x"),
    )

    @classmethod
    def path(cls, empty: Path) -> Path:
        return minilm()

    @classmethod
    def outcome(cls, events: Sequence[Event]) -> object:
        tokens = sum(event.prompt_tokens for event in events if isinstance(event, Started))
        rows: dict[int, Vectors] = {}
        for event in events:
            if isinstance(event, EmbeddingBatch):
                rows.update(
                    zip(event.indices, np.frombuffer(event.vectors, "<f4").reshape(len(event.indices), -1), strict=True)
                )
        return ApproximateResult(tokens, np.stack([rows[index] for index in sorted(rows)]))

"""Embeddings of a text model: the mean of the last hidden states over an input's tokens, as a unit vector."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_host.embedding import Embedder, InputType, Row

from mlx_host_lm.mlx_lm_api import Loaded, trunk
from mlx_host_lm.sampling import Array

SMALLEST = 1e-9


class TextEmbedder(Embedder):
    """A text model of mlx-lm, used without its head.

    Its tokens see only those before them, so padding behind a row changes nothing in it.
    """

    def __init__(self, loaded: Loaded, vocabulary: int, context_length: int | None) -> None:
        self.vocabulary = vocabulary
        self.context_length = context_length
        self._trunk = trunk(loaded.network)
        self._tokenizer = loaded.tokenizer
        # Nothing is computed for a shape.
        self.dimensions = self._trunk(mx.zeros((1, 1), mx.int32)).shape[-1]

    def encode(self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None) -> list[Row]:
        return [Row(self._tokenizer.encode_plain(text, limit)) for text in texts]

    def embed(self, rows: Sequence[Row]) -> list[bytes | None]:
        lengths = mx.array([len(row.tokens) for row in rows])
        longest = max(len(row.tokens) for row in rows)
        tokens = mx.array([[*row.tokens, *[0] * (longest - len(row.tokens))] for row in rows])
        states = self._trunk(tokens)
        there = mx.arange(longest)[None, :] < lengths[:, None]
        means = mx.where(there[:, :, None], states.astype(mx.float32), 0.0).sum(axis=1) / lengths[:, None]
        return unit_vectors(means)


def unit_vectors(means: Array) -> list[bytes | None]:
    """Vectors (rows, size) of length 1 in the bytes of float32; None for one that is not finite."""
    vectors = means / mx.maximum(mx.linalg.norm(means, axis=-1, keepdims=True), SMALLEST)
    values: Any = vectors.tolist()
    return [array("f", vector).tobytes() if all(map(math.isfinite, vector)) else None for vector in values]

"""The embedder of networks that read text alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from mlx_host.embedding import Embedder, InputType, Row
from mlx_host.errors import LoadError

from mlx_host_embeddings.mlx_embeddings_api import Loaded
from mlx_host_embeddings.options import EmbeddingsOptions
from mlx_host_embeddings.pooling import as_bytes, normalized, pool
from mlx_host_embeddings.recipe import Prefixes, Recipe

log = logging.getLogger(__name__)


class TextEmbedder(Embedder):
    """A network with its recipe: prefix, tokens, states, pooling, dense layers, normalization."""

    def __init__(self, loaded: Loaded, recipe: Recipe, prefixes: Prefixes, options: EmbeddingsOptions) -> None:
        self._loaded = loaded
        self._recipe = recipe
        self._modes = _modes(loaded, recipe, options)
        self._prefixes = prefixes
        self._skips = {kind: self._skip(prefix) for kind, prefix in prefixes.items()}
        self.vocabulary = int(loaded.config.get("vocab_size") or len(loaded.tokenizer))
        lengths = (recipe.max_length, loaded.tokenizer.max_length, loaded.positions)
        self.context_length = min((length for length in lengths if length is not None), default=None)
        if recipe.dense is not None and recipe.dense != len(loaded.dense):
            raise LoadError(
                f"the model's modules.json has {recipe.dense} dense layers behind the pooling, "
                f"but mlx-embeddings loads {len(loaded.dense)} for this architecture"
            )
        # The first pass tells the vectors' length, and is the slowest.
        self.dimensions = self._vectors([Row([loaded.tokenizer.pad_id])]).shape[1]

    def encode(self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None) -> list[Row]:
        prefix, skip = self._prefixes[input_type], self._skips[input_type]
        if prefix:
            texts = [prefix + text for text in texts]
        if self._recipe.lower_case:
            texts = [text.lower() for text in texts]
        return [Row(tokens, skip) for tokens in self._loaded.tokenizer.encode(texts, limit)] if texts else []

    def embed(self, rows: Sequence[Row]) -> list[bytes | None]:
        return as_bytes(self._vectors(rows))

    def _vectors(self, rows: Sequence[Row]) -> mx.array:
        longest = max(len(row.tokens) for row in rows)
        tokens = np.full((len(rows), longest), self._loaded.tokenizer.pad_id, np.int32)
        for number, row in enumerate(rows):
            tokens[number, : len(row.tokens)] = row.tokens
        positions = mx.arange(longest)[None, :]
        there = positions < mx.array([len(row.tokens) for row in rows])[:, None]
        pooled = there & (positions >= mx.array([row.skip for row in rows])[:, None])
        states = self._loaded.states(mx.array(tokens), there.astype(mx.int32))
        vectors = pool(states, pooled, self._modes)
        for layer in self._loaded.dense:
            vectors = layer(vectors)
        return normalized(vectors) if self._recipe.normalize else vectors

    def _skip(self, prefix: str) -> int:
        """How many tokens the pooling leaves out because they are the prefix."""
        if not prefix or self._recipe.pool_prompt:
            return 0
        return self._loaded.tokenizer.prefix_length(prefix)


def _modes(loaded: Loaded, recipe: Recipe, options: EmbeddingsOptions) -> tuple[str, ...]:
    if options.pooling is not None:
        return (options.pooling,)
    if not recipe.pooling:
        log.warning(
            "the model's files do not say how to pool; %r is what mlx-embeddings does for it, --pooling sets another",
            loaded.family.pooling,
        )
    return recipe.pooling or (loaded.family.pooling,)

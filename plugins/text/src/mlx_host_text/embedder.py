"""The Embedder of networks that turn tokens into hidden states."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_host.errors import LoadError, UnsupportedRequestError

from mlx_host_text.embedding_scheduler import EmbeddingInput, InputType
from mlx_host_text.pooling import normalize, pool, to_bytes
from mlx_host_text.pooling_config import prompts, read_pooling_config
from mlx_host_text.sampling import Array
from mlx_host_text.tokenizer import Tokenizer

log = logging.getLogger(__name__)

HiddenStates = Callable[[Array, Array], Array]
"""Runs a network: token ids (inputs, tokens), padded on the right, and a mask of the same shape with 1 for tokens and 0
for padding, to hidden states (inputs, tokens, size)."""
NO_PREFIXES: Mapping[InputType | None, str] = {"query": "", "document": "", None: ""}


@dataclass(frozen=True)
class EmbeddingConfig:
    """How hidden states become vectors, and how texts are prepared.

    `pooling` names modes of `pooling.MODES`, whose vectors are concatenated. `dense` are layers after pooling.
    `prefixes` are prepended to texts by the request's input type; without `pool_prefix` their tokens are not pooled.
    """

    pooling: Sequence[str] = ("mean",)
    dense: Sequence[Callable[[Array], Array]] = ()
    normalize: bool = True
    lower_case: bool = False
    prefixes: Mapping[InputType | None, str] = field(default_factory=lambda: NO_PREFIXES)
    pool_prefix: bool = True


def stored_config(folder: Path, config: Mapping[str, Any]) -> EmbeddingConfig | None:
    """Return the configuration in the files of an embedding model, or mean pooling for a model without such files.

    Returns None and logs a warning if the files specify something that a TextEmbedder does not support.
    """
    try:
        stored = read_pooling_config(folder, config)
        if stored.dense:
            raise LoadError("modules.json has dense layers after pooling.")
    except LoadError as error:
        log.warning("the model serves no embeddings (use --backend embeddings): %s", error)
        return None
    return EmbeddingConfig(
        pooling=stored.pooling or ("mean",),
        normalize=stored.normalize,
        lower_case=stored.lower_case,
        prefixes=prompts(stored),
        pool_prefix=stored.pool_prompt,
    )


class TextEmbedder:
    """Embeds text: prefix, tokens, hidden states, pooling, dense layers, normalization."""

    def __init__(
        self,
        states: HiddenStates,
        tokenizer: Tokenizer,
        *,
        vocabulary_size: int,
        context_length: int | None,
        matryoshka_dimensions: Container[int] = (),
        config: EmbeddingConfig | None = None,
    ) -> None:
        self.vocabulary_size = vocabulary_size
        self.context_length = context_length
        self.matryoshka_dimensions = matryoshka_dimensions
        self._states = states
        self._tokenizer = tokenizer
        self._config = EmbeddingConfig() if config is None else config
        # Some tokenizers have a padding token outside the network's vocabulary.
        self._pad_id = tokenizer.pad_id if tokenizer.pad_id < vocabulary_size else 0
        self._skips = {kind: self._skip(prefix) for kind, prefix in self._config.prefixes.items()}
        # MLX is lazy: reading the shape computes nothing.
        self.dimensions: int = self._vectors([EmbeddingInput([self._pad_id])]).shape[1]

    def encode(
        self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None
    ) -> list[EmbeddingInput]:
        prefix, skip = self._config.prefixes[input_type], self._skips[input_type]
        if prefix:
            texts = [prefix + text for text in texts]
        if self._config.lower_case:
            texts = [text.lower() for text in texts]
        return [EmbeddingInput(tokens, skip) for tokens in self._tokenizer.encode_batch(texts, limit)]

    def encode_images(
        self, urls: Sequence[str], texts: Sequence[str], input_type: InputType | None
    ) -> Generator[None, None, list[EmbeddingInput]]:
        yield from ()
        raise UnsupportedRequestError("This model does not support images; send text input only.", param="image_url")

    def embed(self, inputs: Sequence[EmbeddingInput]) -> list[bytes | None]:
        return to_bytes(self._vectors(inputs))

    def _vectors(self, inputs: Sequence[EmbeddingInput]) -> Array:
        longest = max(len(each.tokens) for each in inputs)
        tokens = np.full((len(inputs), longest), self._pad_id, np.int32)
        for row, each in enumerate(inputs):
            tokens[row, : len(each.tokens)] = each.tokens
        positions = mx.arange(longest)[None, :]
        mask = positions < mx.array([len(each.tokens) for each in inputs])[:, None]
        pooled = mask & (positions >= mx.array([each.skip for each in inputs])[:, None])
        vectors = pool(self._states(mx.array(tokens), mask.astype(mx.int32)), pooled, self._config.pooling)
        for layer in self._config.dense:
            vectors = layer(vectors)
        return normalize(vectors) if self._config.normalize else vectors

    def _skip(self, prefix: str) -> int:
        """Return the number of tokens at the start of a text that are not pooled."""
        if not prefix or self._config.pool_prefix:
            return 0
        return self._tokenizer.prefix_length(prefix)

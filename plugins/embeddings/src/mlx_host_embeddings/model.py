"""The embedding model: rows in, forward passes that requests share, vectors out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import mlx.core as mx
import numpy as np
from mlx_host.backend import Load, Model
from mlx_host.embedding import Embedder, Embeddings, InputType, Row
from mlx_host.errors import LoadError
from mlx_host.events import Event
from mlx_host.requests import EmbeddingRequest

from mlx_host_embeddings.mlx_embeddings_api import Loaded, load
from mlx_host_embeddings.options import EmbeddingsOptions
from mlx_host_embeddings.pooling import normalized, pool
from mlx_host_embeddings.recipe import Recipe, read_recipe

log = logging.getLogger(__name__)

CONCURRENCY = 256
# Tokens of padding that cost less than a pass more would.
SLACK_CPU, SLACK_GPU = 32, 512
# Shapes differ from pass to pass, and MLX would keep freed buffers of all of them.
BUFFER_CACHE = 1 << 30
QUERY_PROMPTS = ("query",)
DOCUMENT_PROMPTS = ("document", "passage")


def load_model(request: Load[EmbeddingsOptions]) -> EmbeddingModel:
    if request.path is None or not (request.path / "config.json").is_file():
        raise LoadError(
            f"the backend embeddings needs a folder with a model's config.json, and {request.ref!r} is none"
        )
    request.progress("load", 0, 2, str(request.ref))
    mx.set_cache_limit(BUFFER_CACHE)
    loaded = load(request.path)
    request.progress("load", 1, 2, "first pass")
    embedder = TextEmbedder(loaded, read_recipe(request.path, loaded.config), request.options)
    request.progress("load", 2, 2, str(request.ref))
    return EmbeddingModel(embedder, request.options.batch_tokens)


class EmbeddingModel(Model):
    """A model of mlx-embeddings."""

    serves = (EmbeddingRequest,)
    concurrency = CONCURRENCY

    def __init__(self, embedder: Embedder, batch_tokens: int) -> None:
        on_cpu = mx.default_device().type == mx.DeviceType.cpu
        self.context_length = embedder.context_length
        self.embedder = embedder
        self._embeddings = Embeddings(embedder, batch_tokens=batch_tokens, slack=SLACK_CPU if on_cpu else SLACK_GPU)

    def generate(self, request: EmbeddingRequest) -> Iterator[Event | None]:
        return self._embeddings.generate(request)

    def close(self) -> None:
        mx.clear_cache()


class TextEmbedder(Embedder):
    """A network with its recipe: prefix, tokens, states, pooling, dense layers, normalization."""

    def __init__(self, loaded: Loaded, recipe: Recipe, options: EmbeddingsOptions) -> None:
        self._loaded = loaded
        self._recipe = recipe
        self._modes = _modes(loaded, recipe, options)
        self._prefixes = _prefixes(recipe, options)
        self._skips = {kind: self._skip(prefix) for kind, prefix in self._prefixes.items()}
        self.vocabulary = int(loaded.config.get("vocab_size") or len(loaded.tokenizer))
        self.context_length = _context_length(loaded, recipe, options)
        if recipe.dense is not None and recipe.dense != len(loaded.dense):
            raise LoadError(
                f"the model's modules.json has {recipe.dense} dense layers behind the pooling, "
                f"but mlx-embeddings loads {len(loaded.dense)} for this architecture"
            )
        # The first pass tells the vectors' length, and is the slowest.
        self.dimensions = self._vectors([Row([loaded.tokenizer.pad_id])]).shape[1]
        self.shorter = range(1, self.dimensions) if options.matryoshka else recipe.shorter

    def encode(self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None) -> list[Row]:
        prefix, skip = self._prefixes[input_type], self._skips[input_type]
        if prefix:
            texts = [prefix + text for text in texts]
        if self._recipe.lower_case:
            texts = [text.lower() for text in texts]
        return [Row(tokens, skip) for tokens in self._loaded.tokenizer.encode(texts, limit)] if texts else []

    def embed(self, rows: Sequence[Row]) -> list[bytes | None]:
        vectors = np.array(self._vectors(rows))
        finite = np.isfinite(vectors).all(axis=1)
        return [vector.tobytes() if good else None for vector, good in zip(vectors, finite, strict=True)]

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


def _prefixes(recipe: Recipe, options: EmbeddingsOptions) -> dict[InputType | None, str]:
    def prompt(names: Sequence[str]) -> str:
        return next((recipe.prompts[name] for name in names if name in recipe.prompts), "")

    query = prompt(QUERY_PROMPTS) if options.query_prefix is None else options.query_prefix
    document = prompt(DOCUMENT_PROMPTS) if options.document_prefix is None else options.document_prefix
    defaults = {"query": query, "document": document, None: recipe.prompts.get(recipe.default_prompt or "", "")}
    return {"query": query, "document": document, None: defaults[options.default_input_type]}


def _context_length(loaded: Loaded, recipe: Recipe, options: EmbeddingsOptions) -> int | None:
    positions = loaded.positions
    if options.context_length is not None:
        if positions is not None and options.context_length > positions:
            raise LoadError(
                f"--context-length {options.context_length}: the model has positions for {positions} tokens"
            )
        return options.context_length
    lengths = (recipe.max_length, loaded.tokenizer.max_length, positions)
    return min((length for length in lengths if length is not None), default=None)

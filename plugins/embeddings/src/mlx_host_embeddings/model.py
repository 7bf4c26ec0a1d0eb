"""The embedding model: requests share forward passes of the embedder that fits the network."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
from mlx_host.backend import LoadContext, Model
from mlx_host.embedding import Embedder, Embeddings
from mlx_host.errors import LoadError
from mlx_host.events import Event
from mlx_host.requests import EmbeddingRequest

from mlx_host_embeddings.images import ImageLoader
from mlx_host_embeddings.mlx_embeddings_api import Loaded, Qwen3Vl, Siglip, load
from mlx_host_embeddings.multimodal import Qwen3VlEmbedder, SiglipEmbedder
from mlx_host_embeddings.options import EmbeddingsOptions
from mlx_host_embeddings.recipe import Recipe, prefixes, read_recipe
from mlx_host_embeddings.texts import TextEmbedder

CONCURRENCY = 256
# Tokens in a pass: what is fastest, measured with MiniLM on two CPU cores, and guessed for GPUs.
BATCH_TOKENS_CPU, BATCH_TOKENS_GPU = 512, 8192
# Tokens of padding that cost less than a pass more would.
SLACK_CPU, SLACK_GPU = 64, 512
# Shapes differ from pass to pass, and MLX would keep freed buffers of all of them.
BUFFER_CACHE = 1 << 30


def load_model(request: LoadContext[EmbeddingsOptions]) -> EmbeddingModel:
    if request.path is None or not (request.path / "config.json").is_file():
        raise LoadError(
            f"the backend embeddings needs a folder with a model's config.json, and {request.ref!r} is none"
        )
    options = request.options
    request.progress("load", 0, 2, str(request.ref))
    mx.set_cache_limit(BUFFER_CACHE)
    loaded = load(request.path)
    recipe = read_recipe(request.path, loaded.config)
    request.progress("load", 1, 2, "first pass")
    images = ImageLoader()
    embedder = _embedder(loaded, recipe, options, images)
    embedder.context_length = _context_length(options.context_length, embedder.context_length, loaded.positions)
    embedder.shorter = range(1, embedder.dimensions) if options.matryoshka else recipe.shorter
    request.progress("load", 2, 2, str(request.ref))
    return EmbeddingModel(embedder, images, options.batch_tokens)


class EmbeddingModel(Model):
    """A model of mlx-embeddings."""

    supported_requests = (EmbeddingRequest,)
    concurrency = CONCURRENCY

    def __init__(self, embedder: Embedder, images: ImageLoader, batch_tokens: int | None) -> None:
        on_cpu = mx.default_device().type == mx.DeviceType.cpu
        self.context_length = embedder.context_length
        self.embedder = embedder
        self._images = images
        self._embeddings = Embeddings(
            embedder,
            batch_tokens=batch_tokens or (BATCH_TOKENS_CPU if on_cpu else BATCH_TOKENS_GPU),
            slack=SLACK_CPU if on_cpu else SLACK_GPU,
        )

    def generate(self, request: EmbeddingRequest) -> Iterator[Event | None]:
        return self._embeddings.generate(request)

    def close(self) -> None:
        self._images.close()
        mx.clear_cache()


def _embedder(
    loaded: Loaded | Siglip | Qwen3Vl, recipe: Recipe, options: EmbeddingsOptions, images: ImageLoader
) -> Embedder:
    put_before = prefixes(recipe, options)
    match loaded:
        case Siglip():
            return SiglipEmbedder(loaded, put_before, images)
        case Qwen3Vl():
            return Qwen3VlEmbedder(loaded, put_before, images)
        case Loaded():
            return TextEmbedder(loaded, recipe, put_before, options)


def _context_length(wanted: int | None, trained: int | None, positions: int | None) -> int | None:
    if wanted is not None and positions is not None and wanted > positions:
        raise LoadError(f"--context-length {wanted}: the model has positions for {positions} tokens")
    return trained if wanted is None else wanted

"""The embedding model: requests share the forward passes of the network's embedder."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import mlx.core as mx
from mlx_host.backend import LoadContext, Model
from mlx_host.errors import LoadError
from mlx_host.events import Event
from mlx_host.requests import EmbeddingRequest
from mlx_host_text.embedder import EmbeddingConfig, TextEmbedder
from mlx_host_text.embedding_scheduler import Embedder, EmbeddingScheduler
from mlx_host_text.pooling_config import PoolingConfig, Prompts, prompts, read_pooling_config

from mlx_host_embeddings.images import ImageLoader
from mlx_host_embeddings.mlx_embeddings_api import LoadedModel, Qwen3Vl, Siglip, load
from mlx_host_embeddings.multimodal import Qwen3VlEmbedder, SiglipEmbedder
from mlx_host_embeddings.options import EmbeddingsOptions

log = logging.getLogger(__name__)

CONCURRENCY = 256
# Tokens in a pass: the fastest value with MiniLM on two CPU cores, and an estimate for GPUs.
BATCH_TOKENS_CPU, BATCH_TOKENS_GPU = 512, 8192
# Tokens of padding that cost less than another pass.
MAX_PADDING_CPU, MAX_PADDING_GPU = 64, 512
# The shapes of passes differ, and MLX would keep freed buffers of all of them.
BUFFER_CACHE = 1 << 30


def load_model(context: LoadContext[EmbeddingsOptions]) -> EmbeddingModel:
    if context.path is None or not (context.path / "config.json").is_file():
        raise LoadError(
            f"The backend embeddings needs a model folder with a config.json, but {context.ref!r} is not such a folder."
        )
    options = context.options
    context.progress("load", 0, 2, str(context.ref))
    mx.set_cache_limit(BUFFER_CACHE)
    loaded = load(context.path)
    config = read_pooling_config(context.path, loaded.config)
    context.progress("load", 1, 2, "first pass")
    images = ImageLoader()
    embedder = _embedder(loaded, config, options, images)
    matryoshka = range(1, embedder.dimensions) if options.matryoshka else config.matryoshka_dimensions
    embedder.matryoshka_dimensions = matryoshka
    context.progress("load", 2, 2, str(context.ref))
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
        self._embeddings = EmbeddingScheduler(
            embedder,
            batch_tokens=batch_tokens or (BATCH_TOKENS_CPU if on_cpu else BATCH_TOKENS_GPU),
            max_padding_tokens=MAX_PADDING_CPU if on_cpu else MAX_PADDING_GPU,
        )

    def generate(self, request: EmbeddingRequest) -> Iterator[Event | None]:
        return self._embeddings.generate(request)

    def close(self) -> None:
        self._embeddings.close()
        self._images.close()
        mx.clear_cache()


def _embedder(
    loaded: LoadedModel | Siglip | Qwen3Vl, config: PoolingConfig, options: EmbeddingsOptions, images: ImageLoader
) -> Embedder:
    text_prompts = prompts(
        config,
        query_prefix=options.query_prefix,
        document_prefix=options.document_prefix,
        default_input_type=options.default_input_type,
    )
    if options.pooling is not None and not isinstance(loaded, LoadedModel):
        # These networks pool their output themselves, or were trained with one mode.
        raise LoadError(
            f"--pooling {options.pooling} has no effect on a {loaded.config['model_type']} model, whose pooling is a "
            "part of its architecture; remove --pooling."
        )
    match loaded:
        case Siglip():
            return SiglipEmbedder(loaded, text_prompts, images, _context_length(loaded, loaded.positions, options))
        case Qwen3Vl():
            return Qwen3VlEmbedder(loaded, text_prompts, images, _context_length(loaded, loaded.positions, options))
        case LoadedModel():
            return _text_embedder(loaded, config, text_prompts, options)


def _text_embedder(
    loaded: LoadedModel, config: PoolingConfig, text_prompts: Prompts, options: EmbeddingsOptions
) -> TextEmbedder:
    if config.dense is not None and config.dense != len(loaded.dense):
        raise LoadError(
            f"The model's modules.json has {config.dense} dense layers after pooling, "
            f"but mlx-embeddings loads {len(loaded.dense)} for this architecture."
        )
    lengths = (config.max_length, loaded.tokenizer.max_length, loaded.positions)
    trained = min((length for length in lengths if length is not None), default=None)
    return TextEmbedder(
        loaded.states,
        loaded.tokenizer,
        vocabulary_size=int(loaded.config.get("vocab_size") or len(loaded.tokenizer)),
        context_length=_context_length(loaded, trained, options),
        config=EmbeddingConfig(
            pooling=_pooling(loaded, config, options),
            dense=loaded.dense,
            normalize=config.normalize,
            lower_case=config.lower_case,
            prefixes=text_prompts,
            pool_prefix=config.pool_prompt,
        ),
    )


def _pooling(loaded: LoadedModel, config: PoolingConfig, options: EmbeddingsOptions) -> tuple[str, ...]:
    if options.pooling is not None:
        return (options.pooling,)
    if not config.pooling:
        log.warning(
            "the model's files specify no pooling method; using mlx-embeddings' default %r (--pooling sets another)",
            loaded.family.pooling,
        )
    return config.pooling or (loaded.family.pooling,)


def _context_length(
    loaded: LoadedModel | Siglip | Qwen3Vl, trained: int | None, options: EmbeddingsOptions
) -> int | None:
    wanted = options.context_length
    if wanted is not None and loaded.positions is not None and wanted > loaded.positions:
        raise LoadError(f"--context-length {wanted}: the model supports at most {loaded.positions} tokens.")
    return trained if wanted is None else wanted

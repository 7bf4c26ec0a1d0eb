"""Loads vision and audio models, and composes a TextModel from mlx-vlm's network, batch and caches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mlx_host.backend import LoadContext
from mlx_host.requests import Json
from mlx_host_media.fetcher import Fetcher, FetchLimits
from mlx_host_text.chat_template import TEMPLATE_ERRORS, ChatTemplate, read_template
from mlx_host_text.embedder import TextEmbedder, stored_config
from mlx_host_text.limits import TextLimits
from mlx_host_text.loading import model_folder, warm_up
from mlx_host_text.model import TextModel
from mlx_host_text.model_config import context_length, vocabulary_size
from mlx_host_text.prompts import TextPrompts
from mlx_host_text.sampling_defaults import read_generation_config

from mlx_host_vlm.batch_scheduler import BatchScheduler
from mlx_host_vlm.content_layout import ContentLayout, detect_layout
from mlx_host_vlm.embedder import VisionEmbedder
from mlx_host_vlm.media import Kind, MediaLoader
from mlx_host_vlm.mlx_vlm_api import INPUT_ERRORS, LoadedModel, load
from mlx_host_vlm.options import VlmOptions
from mlx_host_vlm.prompts import VlmPrompts

log = logging.getLogger(__name__)

CONCURRENCY = 32
# Seconds to wait for a download or a decoder in a turn without other work.
IDLE_WAIT = 0.02
# Cached image features may take this fraction of the prefix cache's budget.
FEATURE_CACHE_FRACTION = 8


def load_model(context: LoadContext[VlmOptions]) -> TextModel:
    folder, options = model_folder(context, "vlm"), context.options
    loaded = load(
        folder,
        adapter_path=options.adapter_path,
        trust_remote_code=options.trust_remote_code,
        feature_cache_bytes=options.prompt_cache_bytes // FEATURE_CACHE_FRACTION,
    )
    size = vocabulary_size(loaded.config, loaded.tokenizer)
    limits = _limits(loaded, options)
    batches = BatchFactory(loaded, options.prefill_step_size)
    prompts = _prompts(loaded, options, limits, batches, size)
    model = TextModel(
        tokenizer=loaded.tokenizer,
        prompts=prompts,
        batch=batches,
        caches=loaded.caches,
        prompt_logprobs=loaded.next_logprobs,
        embedder=_embedder(folder, loaded, prompts, size, limits),
        vocabulary_size=size,
        limits=limits,
        options=options,
        generation_config=read_generation_config(folder),
        input_modalities=_modalities(loaded),
    )
    return warm_up(context, model)


def _modalities(loaded: LoadedModel) -> frozenset[str]:
    supported = {"text": True, "image": loaded.supports_images, "audio": loaded.supports_audio}
    return frozenset(name for name, is_supported in supported.items() if is_supported)


class BatchFactory:
    """Creates batches; `idle_wait` returns the seconds that the media loader may block: 0 while a batch is busy."""

    def __init__(self, loaded: LoadedModel, prefill_step_size: int) -> None:
        self._loaded = loaded
        self._prefill_step_size = prefill_step_size
        self._current: BatchScheduler | None = None

    def __call__(self) -> BatchScheduler:
        self._current = BatchScheduler(self._loaded, prefill_step_size=self._prefill_step_size)
        return self._current

    def idle_wait(self) -> float:
        return 0.0 if self._current is not None and self._current.busy else IDLE_WAIT


def _limits(loaded: LoadedModel, options: VlmOptions) -> TextLimits:
    length = context_length(loaded.config, options)
    if loaded.prefills_whole:
        # mlx-vlm cannot batch prompts of different lengths whose tokens all attend to each other, nor fork them.
        return TextLimits(concurrency=1, context_length=length, max_n=1)
    return TextLimits(CONCURRENCY, length)


def _prompts(
    loaded: LoadedModel, options: VlmOptions, limits: TextLimits, batches: BatchFactory, size: int
) -> VlmPrompts:
    source = read_template(options.chat_template_file)
    layout = _layout(loaded, source)
    template = ChatTemplate(loaded.tokenizer, source, layout.content)
    media = MediaLoader(
        batches.idle_wait,
        Fetcher(FetchLimits(), options.trusted_media_hosts) if options.allow_remote_media else None,
        max_pixels=options.max_image_pixels,
        resize=not options.disable_auto_resize,
        sample_rate=loaded.sample_rate,
        max_seconds=loaded.max_audio_seconds,
    )
    texts = TextPrompts(loaded.tokenizer, template, size, limits)
    return VlmPrompts(loaded, texts, template, layout, media, limits)


def _layout(loaded: LoadedModel, template: str | None) -> ContentLayout:
    def render(messages: Sequence[Json]) -> str | None:
        try:
            return loaded.tokenizer.render(messages, (), add_generation_prompt=True, template=template, variables={})
        except TEMPLATE_ERRORS:
            return None

    supported: dict[Kind, bool] = {"image": loaded.supports_images, "audio": loaded.supports_audio}
    placeholders = {kind: loaded.placeholders(kind) for kind, is_supported in supported.items() if is_supported}
    return detect_layout(render, loaded.add_placeholders, placeholders)


def _embedder(
    folder: Path, loaded: LoadedModel, prompts: VlmPrompts, size: int, limits: TextLimits
) -> VisionEmbedder | None:
    states, config = loaded.text_states(), stored_config(folder, loaded.config)
    if states is None or config is None:
        return None
    if config.pooling != ("mean",):
        log.warning("the model serves no embeddings: its pooling is %s; use --backend embeddings", config.pooling)
        return None
    try:
        texts = TextEmbedder(
            states, loaded.tokenizer, vocabulary_size=size, context_length=limits.context_length, config=config
        )
    except INPUT_ERRORS as error:
        log.info("this model does not support embeddings: %s: %s", type(error).__name__, error)
        return None
    return VisionEmbedder(loaded, texts, prompts)

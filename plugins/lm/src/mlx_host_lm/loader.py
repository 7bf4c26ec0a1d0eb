"""Loads text models: mlx-lm's network, batch and caches become the parts of a TextModel."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mlx_host.backend import LoadContext
from mlx_host_text.chat_template import ChatTemplate, read_template
from mlx_host_text.embedder import TextEmbedder, stored_config
from mlx_host_text.limits import TextLimits
from mlx_host_text.loading import model_folder, warm_up
from mlx_host_text.model import TextModel
from mlx_host_text.model_config import context_length, vocabulary_size
from mlx_host_text.prompts import TextPrompts
from mlx_host_text.sampling_defaults import read_generation_config

from mlx_host_lm.mlx_lm_api import LmBatch, LoadedModel, cache_ops, hidden_states, load, next_logprobs
from mlx_host_lm.options import LmOptions

CONCURRENCY = 32


def load_model(context: LoadContext[LmOptions]) -> TextModel:
    folder, options = model_folder(context, "lm"), context.options
    loaded = load(folder, adapter_path=options.adapter_path, trust_remote_code=options.trust_remote_code)
    network, tokenizer = loaded.network, loaded.tokenizer
    limits = TextLimits(CONCURRENCY, context_length(loaded.config, options))
    size = vocabulary_size(loaded.config, tokenizer)
    model = TextModel(
        tokenizer=tokenizer,
        prompts=TextPrompts(
            tokenizer, ChatTemplate(tokenizer, read_template(options.chat_template_file)), size, limits
        ),
        batch=lambda: LmBatch(
            network, stop_tokens=tokenizer.eos_ids, size=CONCURRENCY, prefill_step_size=options.prefill_step_size
        ),
        caches=cache_ops(network),
        prompt_logprobs=partial(next_logprobs, network),
        embedder=_embedder(folder, loaded, size, limits),
        vocabulary_size=size,
        limits=limits,
        options=options,
        generation_config=read_generation_config(folder),
    )
    return warm_up(context, model)


def _embedder(folder: Path, loaded: LoadedModel, size: int, limits: TextLimits) -> TextEmbedder | None:
    states, config = hidden_states(loaded.network), stored_config(folder, loaded.config)
    if states is None or config is None:
        return None
    return TextEmbedder(
        states, loaded.tokenizer, vocabulary_size=size, context_length=limits.context_length, config=config
    )

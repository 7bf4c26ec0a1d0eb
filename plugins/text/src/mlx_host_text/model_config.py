"""Numbers from a model's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlx_host_text.options import GenerationOptions
from mlx_host_text.tokenizer import Tokenizer

CONTEXT_LENGTH_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len")


def context_length(config: Mapping[str, Any], options: GenerationOptions) -> int | None:
    """Return the maximum number of tokens in prompt and output together, or None if there is no limit."""
    limits = (options.context_length, find_number(config, *CONTEXT_LENGTH_KEYS))
    return min((limit for limit in limits if limit is not None), default=None)


def vocabulary_size(config: Mapping[str, Any], tokenizer: Tokenizer) -> int:
    return find_number(config, "vocab_size") or len(tokenizer)


def find_number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these numbers in a model's configuration or its `text_config`."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for name in names:
            if isinstance(part.get(name), int):
                return int(part[name])
    return None

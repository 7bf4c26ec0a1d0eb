"""The supported model types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEXT_TYPES = ("bert", "gemma3_text", "llama_bidirec", "modernbert", "qwen3", "xlm_roberta")
IMAGE_TYPES = ("qwen3_vl", "siglip")
MULTI_VECTOR_TYPES = ("colidefics3", "colqwen2_5", "lfm2")


def model_type(config: Mapping[str, Any]) -> str:
    """Return the type in a config.json, in the spelling of mlx-embeddings."""
    return str(config.get("model_type", "")).replace("-", "_")


def unsupported_type(config: Mapping[str, Any]) -> str | None:
    """Return why a model with this config.json is not supported; None if it is."""
    kind = model_type(config)
    if kind in MULTI_VECTOR_TYPES:
        return (
            f"a {kind} model produces one vector per token, and /v1/embeddings returns one per input; choose a model "
            "that pools its token vectors"
        )
    if kind not in (*TEXT_TYPES, *IMAGE_TYPES):
        supported = ", ".join(sorted((*TEXT_TYPES, *IMAGE_TYPES)))
        return f"the model type {kind!r} is not supported (supported: {supported})"
    return None

"""Registers the backend `vlm`: vision and audio models on mlx-vlm."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model, read_config
from mlx_host_text.model_types import unsupported_model_type
from mlx_host_text.options import SUPPORTED_REQUESTS

from mlx_host_vlm.options import VlmOptions


def load(context: LoadContext[VlmOptions]) -> Model:
    # mlx-vlm and transformers take seconds to import; registering the backend must not import them.
    from mlx_host_vlm.loader import load_model

    return load_model(context)


# mlx-vlm also has encoders, which generate no text.
ENCODERS = ("bert", "dinov2", "modernbert", "siglip", "xlm_roberta")


def accepts(path: Path) -> str | None:
    """Return why this backend cannot load a model; None if it can."""
    model_type = (read_config(path) or {}).get("model_type")
    if isinstance(model_type, str) and model_type.replace("-", "_") in ENCODERS:
        return f"a {model_type} model does not generate text"
    return unsupported_model_type(path, "mlx_vlm")


VLM = Backend(
    name="vlm",
    load=load,
    options=VlmOptions,
    supported_requests=SUPPORTED_REQUESTS,
    accepts=accepts,
    examples=("mlx-community/Qwen3-VL-4B-Instruct-4bit",),
    summary="vision and audio models on mlx-vlm: images and audio in one running batch with text",
)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [VLM]

"""Registers the backend `lm`: text models on mlx-lm."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model
from mlx_host_text.model_types import unsupported_model_type
from mlx_host_text.options import SUPPORTED_REQUESTS

from mlx_host_lm.options import LmOptions


def load(context: LoadContext[LmOptions]) -> Model:
    # mlx-lm and transformers take seconds to import; registering the backend must not import them.
    from mlx_host_lm.loader import load_model

    return load_model(context)


def accepts(path: Path) -> str | None:
    """Return why mlx-lm cannot load a model; None if it can."""
    return unsupported_model_type(path, "mlx_lm")


LM = Backend(
    name="lm",
    load=load,
    options=LmOptions,
    supported_requests=SUPPORTED_REQUESTS,
    accepts=accepts,
    examples=("demo:smollm2", "mlx-community/Qwen3-4B-4bit"),
    summary="text models on mlx-lm: continuous batching, prompt cache, per-request sampling",
)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [LM]

"""Registers the backend `vlm`: vision and audio models on mlx-vlm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model
from mlx_host_text.options import SUPPORTED_REQUESTS

from mlx_host_vlm.options import VlmOptions


def load(context: LoadContext[VlmOptions]) -> Model:
    # mlx-vlm and transformers take seconds to import; registering the backend must not import them.
    from mlx_host_vlm.loader import load_model

    return load_model(context)


VLM = Backend(
    name="vlm",
    load=load,
    options=VlmOptions,
    supported_requests=SUPPORTED_REQUESTS,
    summary="vision and audio models on mlx-vlm: images and audio in one running batch with text",
)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [VLM]

"""Registers the backend `flux`: image generation and editing with mflux."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model, read_config
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest

from mlx_host_flux.options import FluxOptions


def load(context: LoadContext[FluxOptions]) -> Model:
    """Load the model; imports mflux, which takes seconds, only now."""
    from mlx_host_flux.model import load_model

    return load_model(context)


def accepts(path: Path) -> str | None:
    """Return why mflux cannot load a model; None if it can: image models have a folder for each component."""
    if any(path.glob("*/*.safetensors")) or (read_config(path) is None and any(path.glob("*.safetensors"))):
        return None
    return "it has no folders with the components of an image model, such as transformer and vae"


FLUX = Backend(
    name="flux",
    load=load,
    options=FluxOptions,
    supported_requests=(ImageGenerationRequest, ImageEditRequest),
    needs_model=False,
    # An image takes minutes, and one step of a large image can take more than one.
    settings={"queue_size": 50, "queue_timeout": 1800, "stall_timeout": 600},
    accepts=accepts,
    summary="image generation and editing with mflux, streamed step by step",
)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [FLUX]

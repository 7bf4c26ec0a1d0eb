"""Registers the backend `flux`: pictures on mflux."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest

from mlx_host_flux.options import FluxOptions


def load(request: LoadContext[FluxOptions]) -> Model:
    # mflux takes seconds to import, and naming a backend must cost nothing.
    from mlx_host_flux.model import load_model

    return load_model(request)


FLUX = Backend(
    name="flux",
    load=load,
    options=FluxOptions,
    supported_requests=(ImageGenerationRequest, ImageEditRequest),
    needs_model=False,
    # A picture takes minutes, and one step of a large one may well take one.
    settings={"queue_size": 50, "queue_timeout": 1800, "stall_timeout": 600},
    summary="pictures on mflux: generation and editing, streamed step by step",
)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [FLUX]

"""Resolves `demo:NAME` to a small real model whose weights are in a package."""

from __future__ import annotations

from pathlib import Path

from mlx_host import hookimpl
from mlx_host.backend import LoadProgress, ModelSource
from mlx_host.errors import LoadError, UsageError

from mlx_host_demo.cache import build_once, cache_folder
from mlx_host_demo.catalog import MODELS

PREFIX = "demo:"


@hookimpl
def resolve_source(ref: str) -> ModelSource | None:
    if not ref.startswith(PREFIX):
        return None
    model = MODELS.get(ref.removeprefix(PREFIX))
    if model is None:
        known = ", ".join(PREFIX + name for name in sorted(MODELS))
        raise UsageError(f"Unknown demo model {ref!r}; available: {known}.")
    weights, version = model.weights()

    def fetch(progress: LoadProgress) -> Path:
        if model.converter is None:
            return weights
        converter = model.converter()
        try:
            return build_once(
                f"{model.name}-{version}-{converter.variant()}",
                build=lambda folder: converter.convert(weights, folder, progress),
                on_wait=lambda: progress("convert", 0, 1, "another process is converting it"),
            )
        except OSError as error:
            raise LoadError(
                f"Cannot convert {ref!r} into {str(cache_folder())!r}: {error}. Free disk space or set MLX_HOST_CACHE "
                "to a writable folder."
            ) from error

    return ModelSource(ref=ref, description=f"{model.title}, from {model.distribution} {version}", fetch=fetch)

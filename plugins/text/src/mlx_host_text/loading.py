"""The steps of loading that backends of text models share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlx_host.backend import LoadContext
from mlx_host.errors import LoadError

from mlx_host_text.model import TextModel


def model_folder(context: LoadContext[Any], backend: str) -> Path:
    """Return the model's folder and report that loading starts. Raises LoadError if it is not a folder."""
    if context.path is None or not context.path.is_dir():
        raise LoadError(f"The backend {backend} needs a folder with an MLX model, but {context.ref!r} is not a folder.")
    context.progress("load", 0, 1, str(context.ref))
    return context.path


def warm_up(context: LoadContext[Any], model: TextModel) -> TextModel:
    """Report that the model is loaded, run it once and return it."""
    context.progress("load", 1, 1, str(context.ref))
    context.progress("warm-up", 0, 1)
    model.warm_up()
    context.progress("warm-up", 1, 1)
    return model

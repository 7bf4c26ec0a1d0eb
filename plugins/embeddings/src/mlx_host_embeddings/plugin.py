"""Registers the backend `embeddings`: embedding models on mlx-embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model, read_config
from mlx_host.requests import EmbeddingRequest

from mlx_host_embeddings.model_types import unsupported_type
from mlx_host_embeddings.options import EmbeddingsOptions


def load(context: LoadContext[EmbeddingsOptions]) -> Model:
    # mlx-embeddings and transformers take seconds to import; registering the backend must not import them.
    from mlx_host_embeddings.model import load_model

    return load_model(context)


def accepts(path: Path) -> str | None:
    """Return why this backend cannot load a model; None if it can."""
    config = read_config(path)
    if config is None:
        return "it has no readable config.json"
    return unsupported_type(config)


EMBEDDINGS = Backend(
    name="embeddings",
    load=load,
    options=EmbeddingsOptions,
    supported_requests=(EmbeddingRequest,),
    accepts=accepts,
    examples=("demo:minilm", "mlx-community/all-MiniLM-L6-v2-4bit"),
    summary="embedding models on mlx-embeddings: shared batches, the model's own pooling, shortened vectors",
)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [EMBEDDINGS]

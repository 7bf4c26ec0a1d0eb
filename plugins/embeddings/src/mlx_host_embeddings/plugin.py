"""Registers the backend `embeddings`: embedding models on mlx-embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model
from mlx_host.requests import EmbeddingRequest

from mlx_host_embeddings.options import EmbeddingsOptions


def load(context: LoadContext[EmbeddingsOptions]) -> Model:
    # mlx-embeddings and transformers take seconds to import; registering the backend must not import them.
    from mlx_host_embeddings.model import load_model

    return load_model(context)


EMBEDDINGS = Backend(
    name="embeddings",
    load=load,
    options=EmbeddingsOptions,
    supported_requests=(EmbeddingRequest,),
    summary="embedding models on mlx-embeddings: shared batches, the model's own pooling, shortened vectors",
)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [EMBEDDINGS]

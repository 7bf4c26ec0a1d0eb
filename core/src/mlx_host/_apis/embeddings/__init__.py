"""OpenAI's Embeddings API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_host.api import Api, ApiSettings, Service
from mlx_host.requests import EmbeddingRequest

if TYPE_CHECKING:
    from mlx_host.api import Endpoints


def create(service: Service, settings: ApiSettings) -> Endpoints:
    """Create the endpoints."""
    from mlx_host._apis.embeddings.routes import EmbeddingEndpoints

    return EmbeddingEndpoints(service)


EMBEDDINGS = Api(
    name="embeddings",
    settings=ApiSettings,
    create=create,
    prefixes=("/v1/embeddings",),
    request_types=(EmbeddingRequest,),
    summary="OpenAI's embeddings of texts, token ids and images",
)

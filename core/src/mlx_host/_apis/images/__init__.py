"""OpenAI's Images API: generation and editing, as one response, a stream or a background job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_host._apis.images.settings import ImageSettings
from mlx_host.api import Api, Service
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest

if TYPE_CHECKING:
    from mlx_host.api import Endpoints


def create(service: Service, settings: ImageSettings) -> Endpoints:
    """Create the endpoints."""
    from mlx_host._apis.images.routes import ImageEndpoints

    return ImageEndpoints(service, settings)


IMAGES = Api(
    name="images",
    settings=ImageSettings,
    create=create,
    prefixes=("/v1/images",),
    request_types=(ImageGenerationRequest, ImageEditRequest),
    summary="OpenAI's image generation and editing: plain, streamed or as background jobs",
)

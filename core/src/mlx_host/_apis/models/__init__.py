"""The list of served models."""

from __future__ import annotations

from mlx_host.api import Api, ApiSettings, Endpoints, Service


def create(service: Service, settings: ApiSettings) -> Endpoints:
    from mlx_host._apis.models.routes import ModelEndpoints

    return ModelEndpoints(service)


MODELS = Api(
    name="models",
    summary="OpenAI's list of models",
    settings=ApiSettings,
    create=create,
    prefixes=("/v1/models",),
    request_types=(),
)

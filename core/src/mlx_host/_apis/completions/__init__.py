"""OpenAI's legacy completions."""

from __future__ import annotations

from mlx_host.api import Api, ApiSettings, Endpoints, Service
from mlx_host.requests import CompletionRequest


def create(service: Service, settings: ApiSettings) -> Endpoints:
    from mlx_host._apis.completions.routes import CompletionEndpoints

    return CompletionEndpoints(service)


COMPLETIONS = Api(
    name="completions",
    summary="OpenAI's legacy completions, without a chat template",
    settings=ApiSettings,
    create=create,
    prefixes=("/v1/completions",),
    request_types=(CompletionRequest,),
)

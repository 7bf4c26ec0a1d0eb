"""The home page and the API's documentation."""

from __future__ import annotations

from mlx_host.api import Api, ApiSettings, Endpoints, Service


def create(service: Service, settings: ApiSettings) -> Endpoints:
    from mlx_host._apis.home.routes import HomeEndpoints

    return HomeEndpoints(service)


HOME = Api(
    name="home",
    summary="home page, API documentation and OpenAPI document",
    settings=ApiSettings,
    create=create,
    prefixes=("/docs", "/openapi.json"),
    request_types=(),
)

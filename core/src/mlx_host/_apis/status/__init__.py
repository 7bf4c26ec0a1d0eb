"""Health and queue statistics."""

from __future__ import annotations

from mlx_host.api import Api, ApiSettings, Endpoints, Service


def create(service: Service, settings: ApiSettings) -> Endpoints:
    from mlx_host._apis.status.routes import StatusEndpoints

    return StatusEndpoints(service)


STATUS = Api(
    name="status",
    summary="health and queue statistics",
    settings=ApiSettings,
    create=create,
    prefixes=("/health", "/v1/queue"),
    request_types=(),
)

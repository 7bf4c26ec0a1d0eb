"""Prometheus metrics: an API and a `request_finished` hook that share their counters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mlx_host.api import Api, ApiSettings, Endpoints, RequestRecord, Service
from mlx_host.hookspecs import hookimpl

if TYPE_CHECKING:
    from mlx_host._apis.metrics.routes import RequestCounters


class MetricsPlugin:
    """Counts finished requests, as soon as its endpoints have been created."""

    def __init__(self) -> None:
        self._counters: RequestCounters | None = None

    @hookimpl
    def register_apis(self) -> Iterable[Api[Any]]:
        return [
            Api(
                name="metrics",
                summary="Prometheus metrics",
                settings=ApiSettings,
                create=self._create,
                prefixes=("/metrics",),
            )
        ]

    @hookimpl
    def request_finished(self, record: RequestRecord) -> None:
        if self._counters is not None:
            self._counters.add(record)

    def _create(self, service: Service, settings: ApiSettings) -> Endpoints:
        from prometheus_client import CollectorRegistry

        from mlx_host._apis.metrics.routes import MetricsEndpoints, RequestCounters

        registry = CollectorRegistry()
        self._counters = RequestCounters(registry)
        return MetricsEndpoints(service, registry)

"""Core's own endpoints, brought through the same hooks as anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_host.hookspecs import hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter

    from mlx_host.api import metrics
    from mlx_host.host import Host, RequestRecord


@hookimpl
def register_routes(router: APIRouter, host: Host) -> None:
    """Add OpenAI's endpoints and those that tell how the server is."""
    # Other commands do without the web framework, which takes its time to import.
    from mlx_host.api import audio, chat, completions, embeddings, images, models, responses, status, tokenize

    for family in (chat, responses, completions, embeddings, images, audio, tokenize, models, status):
        family.routes(router, host)


class Metrics:
    """Counts requests, and adds the endpoint that tells the numbers."""

    def __init__(self) -> None:
        self._requests: metrics.Requests | None = None

    @hookimpl
    def register_routes(self, router: APIRouter, host: Host) -> None:
        from prometheus_client import CollectorRegistry

        from mlx_host.api import metrics

        registry = CollectorRegistry()
        self._requests = metrics.Requests(registry)
        metrics.routes(router, host, registry)

    @hookimpl
    def request_finished(self, record: RequestRecord) -> None:
        if self._requests is not None:
            self._requests.add(record)

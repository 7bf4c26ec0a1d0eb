"""Core's own endpoints, brought through the same hooks as anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_host.hookspecs import hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter

    from mlx_host._apis.metrics import routes
    from mlx_host._host import Host, RequestRecord


@hookimpl
def register_routes(router: APIRouter, host: Host) -> None:
    """Add OpenAI's endpoints and those that tell how the server is."""
    # Other commands do without the web framework, which takes its time to import.
    from mlx_host._apis.audio import routes as audio
    from mlx_host._apis.chat import routes as chat
    from mlx_host._apis.completions import routes as completions
    from mlx_host._apis.embeddings import routes as embeddings
    from mlx_host._apis.images import routes as images
    from mlx_host._apis.models import routes as models
    from mlx_host._apis.responses import routes as responses
    from mlx_host._apis.status import routes as status
    from mlx_host._apis.tokens import routes as tokens

    for family in (chat, responses, completions, embeddings, images, audio, tokens, models, status):
        family.routes(router, host)


class Metrics:
    """Counts requests, and adds the endpoint that tells the numbers."""

    def __init__(self) -> None:
        self._requests: routes.Requests | None = None

    @hookimpl
    def register_routes(self, router: APIRouter, host: Host) -> None:
        from prometheus_client import CollectorRegistry

        from mlx_host._apis.metrics import routes

        registry = CollectorRegistry()
        self._requests = routes.Requests(registry)
        routes.routes(router, host, registry)

    @hookimpl
    def request_finished(self, record: RequestRecord) -> None:
        if self._requests is not None:
            self._requests.add(record)

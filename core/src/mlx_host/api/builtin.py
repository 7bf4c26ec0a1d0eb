"""Core's own endpoints, brought through the same hook as anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_host.hookspecs import hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter

    from mlx_host.host import Host


@hookimpl
def register_routes(router: APIRouter, host: Host) -> None:
    """Add OpenAI's endpoints and those that tell how the server is."""
    # Other commands do without the web framework, which takes its time to import.
    from mlx_host.api import chat, models, status

    for family in (chat, models, status):
        family.routes(router, host)

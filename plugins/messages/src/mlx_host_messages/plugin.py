"""Adds Anthropic's endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_host import hookimpl

if TYPE_CHECKING:
    from fastapi import APIRouter
    from mlx_host._host import Host


@hookimpl
def register_routes(router: APIRouter, host: Host) -> None:
    """Add POST /v1/messages and /v1/messages/count_tokens."""
    # Other commands do without the web framework, which takes its time to import.
    from mlx_host_messages.routes import routes

    routes(router, host)

"""The ASGI application: every plugin's endpoints behind the door, and error bodies."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from mlx_host import __version__
from mlx_host._host import Host
from mlx_host._http.middleware import BodyLimit, HeadAsGet, RequestId
from mlx_host.api import errors
from mlx_host.api.json_io import JsonResponse, JsonRoute


def new_router() -> APIRouter:
    """Make a router whose endpoints read JSON strictly."""
    return APIRouter(route_class=JsonRoute)


def application(routers: Iterable[APIRouter], respond: errors.Respond = errors.response) -> FastAPI:
    """Make an application of these endpoints whose errors are shaped by `respond`.

    A dialect with errors of its own adds one of these to its router: `Route(path, application(...))`.
    """
    # The interactive pages load scripts from other servers; the document itself is ours.
    app = FastAPI(
        title="mlx-host",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=JsonResponse,
    )
    for router in routers:
        app.include_router(router)
    errors.install(app, respond)
    return app


def make_app(host: Host) -> ASGIApp:
    """Make the application that serves this host."""
    app = application(host.plugins.routers(new_router, host))
    # Around the framework, whose own last resort for errors is outside of all that is added to it.
    return RequestId(HeadAsGet(BodyLimit(app, host.settings.max_body_mb)))

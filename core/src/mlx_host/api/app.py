"""The ASGI application: every plugin's endpoints, error bodies, and an id for each request."""

from __future__ import annotations

import uuid

from fastapi import APIRouter, FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_host import __version__
from mlx_host.api import errors
from mlx_host.host import Host


class RequestId:
    """Gives every answer an id, under the names that OpenAI's and Anthropic's clients look for.

    Plain ASGI: under Starlette's BaseHTTPMiddleware an endpoint could not see its client go away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = headers["request-id"] = request_id
            await send(message)

        request_id = f"req_{uuid.uuid4().hex}"
        await self._app(scope, receive, send_with_id)


def make_app(host: Host) -> FastAPI:
    """Make the application that serves this host."""
    # The interactive pages load scripts from other servers; the document itself is ours.
    app = FastAPI(title="mlx-host", version=__version__, docs_url=None, redoc_url=None)
    router = APIRouter()
    host.plugins.hook.register_routes(router=router, host=host)
    app.include_router(router)
    errors.install(app)
    app.add_middleware(RequestId)
    return app

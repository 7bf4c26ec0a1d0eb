"""GET and HEAD /, and GET /docs and /openapi.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from mlx_host._apis.home.pages import DOCS_HTML, home_html, home_json
from mlx_host.api import Endpoints, Service
from mlx_host.api.http import JsonResponse, RouteNotFoundError, caller, examples, new_router

ASSETS = Path(__file__).parent / "assets"
# Swagger UI sets inline styles and images; everything else is loaded from this server.
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# The pages add the version to the URLs.
CACHE = {"cache-control": "public, max-age=86400"}

HOME_EXAMPLE = {
    "name": "mlx-host",
    "version": "0.1.0",
    "models": [{"id": "demo:smollm2", "backend": "lm", "state": "ready"}],
    "links": {"docs": "/docs", "openapi": "/openapi.json", "models": "/v1/models", "health": "/health"},
    "endpoints": {"models": ["GET /v1/models", "GET /v1/models/{name}"]},
}


def openapi(http: Request) -> dict[str, Any]:
    """Return the OpenAPI document of the application that handles a request."""
    app: FastAPI = http.app
    return app.openapi()


class HomeEndpoints(Endpoints):
    """The pages that describe the server."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def router(self) -> APIRouter:
        router = new_router()
        router.get("/", response_model=None, **examples(response=HOME_EXAMPLE))(self.home)
        # Claude Code asks whether the server is reachable.
        router.head("/", response_model=None, include_in_schema=False)(self.home)
        router.get("/docs", response_class=HTMLResponse)(self.docs)
        router.get("/docs/{name}", response_model=None, include_in_schema=False)(self.asset)
        router.get("/openapi.json", **examples(response={"openapi": "3.1.0", "paths": {}}))(self.document)
        return router

    async def home(self, http: Request) -> Response:
        """Describe the server: HTML for browsers, JSON for other clients."""
        models, document = self._service.models(caller(http)), openapi(http)
        headers = {**SECURITY_HEADERS, "vary": "Accept"}
        if "text/html" in http.headers.get("accept", ""):
            url = str(http.base_url).rstrip("/")
            return HTMLResponse(home_html(models, document, url), headers=headers)
        return JsonResponse(home_json(models, document), headers=headers)

    async def docs(self) -> Response:
        """Show the API's documentation in a browser (Swagger UI)."""
        return HTMLResponse(DOCS_HTML, headers=SECURITY_HEADERS)

    async def asset(self, name: str) -> Response:
        """Return a script, a style sheet or the icon of the pages."""
        if name not in {path.name for path in ASSETS.iterdir()}:
            raise RouteNotFoundError(f"No endpoint at GET /docs/{name}.")
        return FileResponse(ASSETS / name, headers={**SECURITY_HEADERS, **CACHE})

    async def document(self, http: Request) -> dict[str, Any]:
        """Return the OpenAPI document of all APIs."""
        return openapi(http)

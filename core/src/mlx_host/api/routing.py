"""Routers that parse JSON bodies strictly."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from mlx_host.api.errors import UnsupportedMediaTypeError
from mlx_host.api.json_io import HTTPExceptionAdapter, loads
from mlx_host.api.service import LOCAL, Caller
from mlx_host.errors import InvalidRequestError, PluginError

CALLER = "mlx_host.caller"
# The key of the list of warnings about a request, in the ASGI scope.
WARNINGS = "mlx_host.warnings"
SURROGATES_REPLACED = "The request body has unpaired surrogates; each was replaced by U+FFFD."
JSON_MEDIA_TYPE = re.compile(r"application/([\w.-]+\+)?json")


class JsonRequest(Request):
    """A request whose JSON is parsed strictly, except that unpaired surrogates become U+FFFD.

    JavaScript clients send them when they cut a text within an emoji; a conversation that contains one would otherwise
    be rejected from then on.
    """

    async def json(self) -> Any:
        warnings: list[str] = self.scope.get(WARNINGS, [])
        try:
            return loads(await self.body(), replaced_surrogates=lambda: warnings.append(SURROGATES_REPLACED))
        except InvalidRequestError as error:
            raise HTTPExceptionAdapter(error) from None


class JsonRoute(APIRoute):
    """An endpoint that accepts JSON bodies only as `application/json`.

    Browsers send other content types across origins without a CORS preflight, so any web page could otherwise use a
    local server.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        check_annotations(path, endpoint)
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        expects_json = self.body_field is not None

        async def strict(request: Request) -> Response:
            if expects_json:
                require_json(request)
            return await handle(JsonRequest(request.scope, request.receive))

        return strict


def check_annotations(path: str, endpoint: Callable[..., Any]) -> None:
    """Raise PluginError if an annotation of a handler's parameters cannot be resolved.

    FastAPI would treat such a parameter as a required query parameter, and reject every request.
    """
    for name, parameter in inspect.signature(endpoint).parameters.items():
        annotation = parameter.annotation
        if isinstance(annotation, str):
            try:
                eval(annotation, getattr(endpoint, "__globals__", {}))
            except NameError as error:
                raise PluginError(
                    f"The handler of {path} has the parameter {name!r} with an annotation that cannot be resolved "
                    f"({error}). Import it at the top of the module, or remove `from __future__ import annotations`."
                ) from None


def require_json(request: Request) -> None:
    """Raise UnsupportedMediaTypeError unless the request declares a JSON body."""
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if not JSON_MEDIA_TYPE.fullmatch(media_type):
        raise UnsupportedMediaTypeError(
            f"Content-Type {content_type!r} is not supported; send the body as application/json."
        )


def new_router() -> APIRouter:
    """Create a router for an API's endpoints that parses JSON bodies strictly."""
    return APIRouter(route_class=JsonRoute)


def caller(http: HTTPConnection) -> Caller:
    """Return the caller set by the authentication middleware; LOCAL without authentication."""
    found: Caller = http.scope.get("state", {}).get(CALLER, LOCAL)
    return found

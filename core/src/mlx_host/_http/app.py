"""The ASGI application: the endpoints of all APIs, middleware, and errors in each API's format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_host import __version__
from mlx_host._host import request_log
from mlx_host._http import openapi
from mlx_host._http.middleware import BodyLimit, HeadAsGet, RequestIdAndLog, RequestWarnings, SameOrigin
from mlx_host.api import Api, ApiSettings, Endpoints, Service
from mlx_host.api.errors import (
    INTERNAL_ERROR,
    HttpStatusError,
    InternalError,
    RouteNotFoundError,
    openai_error,
    validation_error,
)
from mlx_host.api.json_io import HTTPExceptionAdapter, JsonResponse
from mlx_host.errors import PluginError, RequestError

ErrorFormat = Callable[[RequestError], Response]
SettingsT = TypeVar("SettingsT", bound=ApiSettings)


@dataclass(frozen=True)
class MountedApi:
    """An API of this server: its name, the plugin that registered it, and its endpoints."""

    name: str
    plugin: str
    prefixes: tuple[str, ...]
    endpoints: Endpoints
    router: APIRouter
    summary: str = ""
    submits: bool = False
    """Whether its endpoints submit requests to models."""

    @property
    def routes(self) -> list[Route]:
        """The routes of its endpoints, in order."""
        return [route for route in self.router.routes if isinstance(route, Route)]

    def __str__(self) -> str:
        return f"API {self.name!r} of {self.plugin}"


def mount(api: Api[SettingsT], plugin: str, service: Service, settings: SettingsT) -> MountedApi:
    """Create an API's endpoints; PluginError if they are not what `Api` requires."""
    endpoints = api.create(service, settings)
    if not isinstance(endpoints, Endpoints):
        raise PluginError(f"create returned {endpoints!r}, expected Endpoints")
    router = endpoints.router()
    if not isinstance(router, APIRouter):
        raise PluginError(f"router() returned {router!r}, expected an APIRouter from new_router()")
    mounted = MountedApi(
        api.name, plugin, api.prefixes, endpoints, router, summary=api.summary, submits=bool(api.request_types)
    )
    for route in mounted.routes:
        if not route.path.startswith("/"):
            raise PluginError(f"the path {route.path!r} must start with '/'")
    return mounted


def check_conflicts(apis: Sequence[MountedApi]) -> None:
    """Raise PluginError if two APIs serve the same method and path; it names both."""
    for number, first in enumerate(apis):
        for second in apis[number + 1 :]:
            for route in first.routes:
                for other in second.routes:
                    methods = (route.methods or set()) & (other.methods or set())
                    if methods and _overlap(route, other):
                        raise PluginError(
                            f"{first} (path {route.path}) and {second} (path {other.path}) both serve {min(methods)} "
                            f"requests for the same URL. Disable one of them: --disable-api {first.name} or "
                            f"--disable-api {second.name}."
                        )


def _overlap(first: Route, second: Route) -> bool:
    """Whether a path exists that matches both routes."""
    return _match(first.path.strip("/").split("/"), second.path.strip("/").split("/"))


def _match(first: Sequence[str], second: Sequence[str]) -> bool:
    if _takes_rest(first) or _takes_rest(second):
        return bool(first) and bool(second)
    if not first or not second:
        return not first and not second
    is_same = first[0] == second[0] or "{" in first[0] or "{" in second[0]
    return is_same and _match(first[1:], second[1:])


def _takes_rest(segments: Sequence[str]) -> bool:
    return bool(segments) and segments[0].endswith(":path}")


def is_below(path: str, prefix: str) -> bool:
    """Whether a path is a prefix of an API, or below it."""
    return path == prefix or path.startswith(f"{prefix.rstrip('/')}/")


class ErrorFormats:
    """Chooses the format of an error by the path of the request: that of the API with the longest matching prefix."""

    def __init__(self, apis: Iterable[MountedApi], disabled: Mapping[str, Collection[str]] = {}) -> None:
        self._disabled = disabled
        by_prefix = [(prefix, api.endpoints.error) for api in apis for prefix in api.prefixes]
        self._by_prefix: list[tuple[str, ErrorFormat]] = sorted(by_prefix, key=lambda item: -len(item[0]))

    def response(self, request: Request, error: RequestError) -> Response:
        """Return the response for an error of a request, and add the error to the log."""
        if (entry := request_log.current()) is not None:
            entry.error = error
        path = request.url.path
        for prefix, error_format in self._by_prefix:
            if is_below(path, prefix):
                return error_format(error)
        return openai_error(error)

    def install(self, app: FastAPI) -> None:
        """Register exception handlers that respond in the format of the request's API."""

        async def rejected(request: Request, error: Exception) -> Response:
            assert isinstance(error, RequestError)
            return self.response(request, error)

        async def invalid(request: Request, error: Exception) -> Response:
            assert isinstance(error, RequestValidationError)
            _log_model(error.body)
            return self.response(request, validation_error(error.errors()))

        async def http(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)
            if isinstance(error, HTTPExceptionAdapter):
                return self.response(request, error.error)
            method, path = request.method, request.url.path
            if error.status_code == HTTPStatus.NOT_FOUND:
                return self.response(request, RouteNotFoundError(self._not_found(method, path)))
            if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                message, code = f"{path} does not support {method}.", "method_not_allowed"
            else:
                message, code = str(error.detail), None
            response = self.response(request, HttpStatusError(error.status_code, message, code=code))
            response.headers.update(error.headers or {})
            return response

        async def failed(request: Request, error: Exception) -> Response:
            # Starlette raises the error again after this, and uvicorn logs it.
            return self.response(request, InternalError(INTERNAL_ERROR))

        app.add_exception_handler(RequestError, rejected)
        app.add_exception_handler(RequestValidationError, invalid)
        app.add_exception_handler(HTTPException, http)
        app.add_exception_handler(Exception, failed)

    def _not_found(self, method: str, path: str) -> str:
        for name, prefixes in self._disabled.items():
            if any(is_below(path, prefix) for prefix in prefixes):
                return (
                    f"No endpoint at {method} {path}: the API {name!r} is disabled. "
                    f"Start the server without --disable-api {name}."
                )
        return f"No endpoint at {method} {path}."


def _log_model(body: object) -> None:
    """Add the model that an invalid body names to the log."""
    model = body.get("model") if isinstance(body, Mapping) else None
    if isinstance(model, str) and (entry := request_log.current()) is not None:
        entry.model = model


class PortDispatcher:
    """Routes the requests that arrive at a port of `by_port` to its application, all others to `default`."""

    def __init__(self, default: ASGIApp, by_port: Mapping[int, ASGIApp]) -> None:
        self._default = default
        self._by_port = by_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The scope of the lifespan has no server.
        _, port = scope.get("server") or (None, None)
        app = self._default if port is None else self._by_port.get(port, self._default)
        await app(scope, receive, send)


def make_app(
    apis: Sequence[MountedApi],
    max_body_mb: float,
    ports: Mapping[int, Collection[str]] = {},
    disabled: Mapping[str, Collection[str]] = {},
) -> ASGIApp:
    """Create the application that serves these APIs; PluginError if two of them conflict.

    `ports` maps additional ports to the names of the only APIs that are served there. `disabled` maps the names of
    disabled APIs to their prefixes, for the message of a 404.
    """
    check_conflicts(apis)
    by_port = {port: application([api for api in apis if api.name in names], disabled) for port, names in ports.items()}
    default = application(apis, disabled)
    app = PortDispatcher(default, by_port) if by_port else default
    # Around the framework, because its handler of unexpected errors is outside of all middleware added to it.
    return RequestIdAndLog(SameOrigin(RequestWarnings(HeadAsGet(BodyLimit(app, max_body_mb)))))


def application(apis: Sequence[MountedApi], disabled: Mapping[str, Collection[str]] = {}) -> FastAPI:
    """Create the FastAPI application of these APIs, without middleware.

    It serves no documentation itself: FastAPI's pages load scripts from other servers. The API `home` serves it.
    """
    app = FastAPI(
        title="mlx-host",
        version=__version__,
        openapi_url=None,
        openapi_tags=[{"name": api.name, "description": f"{api.summary} ({api.plugin})"} for api in apis],
        redirect_slashes=False,
        default_response_class=JsonResponse,
    )
    for api in apis:
        app.include_router(api.router, tags=[api.name])
    ErrorFormats(apis, disabled).install(app)
    app.router.default = _with_websocket_errors(app.router.default)
    openapi.install(app, apis)
    return app


def _with_websocket_errors(not_found: ASGIApp) -> ASGIApp:
    """Respond to a WebSocket without an endpoint with a 404, where Starlette would close it with a 403."""

    async def default(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            error = RouteNotFoundError(f"No WebSocket endpoint at {scope['path']}.")
            await openai_error(error)(scope, receive, send)
        else:
            await not_found(scope, receive, send)

    return default

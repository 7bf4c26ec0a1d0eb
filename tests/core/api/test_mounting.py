"""Mounting APIs: conflicts are found at startup, and errors have the format of the API that they belong to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from mlx_host._http.app import MountedApi, make_app, mount
from mlx_host.api import Api, ApiSettings, Endpoints
from mlx_host.api.http import new_router
from mlx_host.errors import PluginError, QueueFullError, RequestError
from pydantic import BaseModel
from starlette.testclient import TestClient


class Body(BaseModel):
    number: int


class Shouting(Endpoints):
    """An API with its own error format."""

    def __init__(self, *paths: str) -> None:
        self._paths = paths

    def router(self) -> APIRouter:
        router = new_router()
        for path in self._paths:

            @router.post(path, response_model=None)
            async def handle(body: Body, http: Request) -> Response:
                if body.number == 0:
                    raise QueueFullError("full")
                if body.number == 1:
                    raise KeyError("a fault of the handler")
                return PlainTextResponse("ok")

        return router

    def error(self, error: RequestError) -> Response:
        return PlainTextResponse(f"{error.status} {error.message}".upper(), error.status)


def mounted(name: str, *paths: str, prefixes: tuple[str, ...] = ()) -> MountedApi:
    service: Any = None
    api = Api(name=name, settings=ApiSettings, create=lambda service, settings: Shouting(*paths), prefixes=prefixes)
    return mount(api, f"mlx-host-{name} 1.0", service, ApiSettings())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/v1/models", "/v1/models"),
        ("/v1/models/{name:path}", "/v1/models/events"),
        ("/v1/models/events", "/v1/models/{name:path}"),
        ("/v1/{a}/x", "/v1/{b}/x"),
        ("/v1/{a}/x", "/v1/b/{c}"),
    ],
)
def test_two_apis_on_one_path_are_an_error_that_names_both(first: str, second: str) -> None:
    apis = [mounted("one", first), mounted("other", "/own", second)]
    with pytest.raises(PluginError, match=r"mlx-host-one 1\.0.*mlx-host-other 1\.0") as error:
        make_app(apis, max_body_mb=1)
    assert second in str(error.value)
    assert "--disable-api other" in str(error.value)


@pytest.mark.parametrize(("first", "second"), [("/v1/models", "/v1/model"), ("/v1/{a}/x", "/v1/{a}/y"), ("/a", "/a/b")])
def test_different_paths_do_not_conflict(first: str, second: str) -> None:
    make_app([mounted("one", first), mounted("other", second)], max_body_mb=1)


@pytest.fixture
def client() -> TestClient:
    apis = [
        mounted("outer", "/v1/outer", prefixes=("/v1/outer",)),
        mounted("plain", "/v1/plain"),
    ]
    return TestClient(make_app(apis, max_body_mb=0.001), raise_server_exceptions=False)


REQUESTS: list[tuple[dict[str, Any], int]] = [
    ({"json": {"number": 0}}, 429),
    ({"json": {"number": 1}}, 500),
    ({"json": {"number": "x"}}, 400),
    ({"json": {}}, 400),
    ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
    ({"content": b"{}", "headers": {"content-type": "text/plain"}}, 415),
    ({"content": b"{}", "headers": {"content-type": "application/json", "content-encoding": "gzip"}}, 415),
    ({"content": json.dumps({"x": "y" * 2000}), "headers": {"content-type": "application/json"}}, 413),
]


@pytest.mark.parametrize(("request_", "status"), REQUESTS)
def test_every_error_has_the_format_of_its_api(client: TestClient, request_: dict[str, Any], status: int) -> None:
    own = client.post("/v1/outer", **request_)
    assert (own.status_code, own.text.split()[0]) == (status, str(status))
    assert own.text == own.text.upper()
    openai = client.post("/v1/plain", **request_)
    assert openai.status_code == status
    assert openai.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/outer/unknown", 404), ("GET", "/v1/outer", 405), ("POST", "/v1/outerspace", 404), ("GET", "/", 404)],
)
def test_errors_without_a_handler_have_the_format_of_the_prefix(
    client: TestClient, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    if path.startswith("/v1/outer") and path != "/v1/outerspace":
        assert response.text.startswith(f"{status} ")
    else:
        assert response.json()["error"]["code"] == "not_found"


def test_annotation_that_cannot_be_resolved_is_an_error_at_startup() -> None:
    from starlette.requests import Request as LocalRequest

    async def handle(http: LocalRequest) -> Response:
        raise AssertionError("never called")

    with pytest.raises(PluginError, match=r"/v1/x.*'http'"):
        new_router().add_api_route("/v1/x", handle, response_model=None)


@pytest.mark.parametrize(
    ("endpoints", "part"),
    [("not endpoints", "expected Endpoints"), (None, "expected Endpoints"), (Shouting("v1/x"), "must start with '/'")],
)
def test_endpoints_that_cannot_be_served_are_an_error_when_mounted(endpoints: Any, part: str) -> None:
    service: Any = None
    api = Api(name="broken", settings=ApiSettings, create=lambda service, settings: endpoints)
    with pytest.raises(PluginError) as error:
        mount(api, "mlx-host-broken 1.0", service, ApiSettings())
    assert part in str(error.value)


def test_a_router_that_is_missing_is_an_error_when_mounted() -> None:
    class Missing(Endpoints):
        def router(self) -> Any:
            return None

    service: Any = None
    api = Api(name="broken", settings=ApiSettings, create=lambda service, settings: Missing())
    with pytest.raises(PluginError, match="router"):
        mount(api, "mlx-host-broken 1.0", service, ApiSettings())

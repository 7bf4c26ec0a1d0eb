"""The contract of APIs, as tests to inherit: errors, streams, disconnects, settings and routes."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from starlette.responses import Response
from starlette.routing import Route

from mlx_host.api import Api, Endpoints
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import Request
from mlx_host.testing.fake_service import FakeService
from mlx_host.testing.http import HttpResponse
from mlx_host.testing.server import RunningServer, environment, read, wait_until

# One request at a time and no queue, so that a second request is rejected while the first one runs.
ONE_REQUEST = ("--max-concurrency", "1", "--queue-size", "0")
UNKNOWN_FIELD = "mlx_host_contract_unknown"
MESSAGE = "An error of the API contract."
FINISHED = re.compile(r'^mlx_host_requests_total\{.*task="(.*?)".*\} (\S+)$', re.MULTILINE)
METHODS = ("PATCH", "PUT", "DELETE", "GET", "POST")
TERABYTE = 10**12

_FLAGS = pytest.StashKey[set[str]]()
_SERVERS = pytest.StashKey[dict[tuple[str, ...], RunningServer]]()


class ApiContract:
    """Inherit, set `api`, `arguments`, `path` and `body`, and let pytest collect the subclass.

        class TestSpeech(ApiContract):
            api = SPEECH
            arguments = ("--backend", "tones")
            path = "/v1/audio/speech"
            body = {"input": "Hello there."}
            stream = {}
            invalid = ({"input": ""},)

    The plugin must be installed: `mlx-host run ARGUMENTS` is started as a process, once for consecutive classes with
    the same arguments. POST `path` with the fields `body` must succeed quickly, and with the same output each time.

    `stream` are the fields that, added to `body`, make the response a stream: None if the API has no streams, empty if
    every response is one. `invalid` are changes to `body` that make it invalid; include one that is rejected by the
    model, not by the API. `settings` are the API's settings, if the defaults are not suitable.
    """

    api: ClassVar[Api[Any]]
    arguments: ClassVar[Sequence[str]]
    path: ClassVar[str]
    body: ClassVar[Mapping[str, Any]]
    stream: ClassVar[Mapping[str, Any] | None] = None
    invalid: ClassVar[Sequence[Mapping[str, Any]]] = ()
    settings: ClassVar[Mapping[str, Any]] = {}
    # Seconds to wait for events that are immediate with a correct server.
    timeout: ClassVar[float] = 30.0

    @classmethod
    def encode(cls, fields: Mapping[str, Any]) -> tuple[bytes, str]:
        """Return a request body and its content type; override this if the body is not JSON."""
        return json.dumps(fields).encode(), "application/json"

    @classmethod
    def output(cls, response: HttpResponse) -> object:
        """Return the part of a response that must be equal with and without streaming, such as the text."""
        pytest.fail("override `output`: return the part of a response that must be equal with and without streaming")

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, request: pytest.FixtureRequest) -> RunningServer:
        arguments = (*cls.arguments, *ONE_REQUEST)
        servers = request.config.stash.setdefault(_SERVERS, {})
        if arguments not in servers:
            # One server at a time, because models need memory.
            for server in servers.values():
                server.stop()
            servers.clear()
            server = servers[arguments] = RunningServer(arguments)
            request.config.add_cleanup(lambda: server.stop() if servers.pop(arguments, None) is server else None)
        return servers[arguments]

    @pytest.fixture(scope="class")
    @classmethod
    def endpoints(cls) -> Endpoints:
        """The endpoints of the API, without a server."""

        async def create() -> Endpoints:
            return cls.api.create(FakeService(), cls.api.settings(**cls.settings))

        return asyncio.run(create())

    @pytest.fixture(scope="class")
    @classmethod
    def routes(cls, endpoints: Endpoints) -> list[Route]:
        return [route for route in endpoints.router().routes if isinstance(route, Route)]

    @pytest.fixture(scope="class")
    @classmethod
    def rejection(cls, endpoints: Endpoints) -> Response:
        """An error response in the API's format."""
        return endpoints.error(InvalidRequestError(MESSAGE, param="field", code="contract"))

    # Registration

    def test_request_types_are_valid(self) -> None:
        assert self.api.request_types, "request_types is empty; list the types of requests that the API submits"
        for each in self.api.request_types:
            is_request = isinstance(each, type) and issubclass(each, Request)
            assert is_request, f"{each!r} in request_types is not a subclass of Request"
            assert pickle.loads(pickle.dumps(each)) is each, f"{each!r} cannot be imported by its name"

    def test_settings_have_descriptions(self) -> None:
        for name, field in self.api.settings.model_fields.items():
            assert field.description, f"setting {name!r} has no description; it is the help text of its flag"

    def test_settings_are_flags(self, pytestconfig: pytest.Config) -> None:
        flags = flags_of_run(pytestconfig)
        for name in self.api.settings.model_fields:
            flag = f"--{self.api.name}-{name}".replace("_", "-")
            assert flag in flags, f"`mlx-host run --help-all` does not list {flag}"

    def test_prefixes_cover_the_routes(self, routes: list[Route]) -> None:
        assert routes, "the API has no routes"
        for route in routes:
            covered = any(is_below(route.path, prefix) for prefix in self.api.prefixes)
            assert covered, f"{route.path} is not below any of the prefixes {self.api.prefixes}"

    def test_routes_are_in_the_openapi_document(self, server: RunningServer, routes: list[Route]) -> None:
        paths = server.request("GET", "/openapi.json").json()["paths"]
        for route in routes:
            for method in (route.methods or set()) - {"HEAD"}:
                described = method.lower() in paths.get(route.path_format, {})
                assert described, f"/openapi.json does not describe {method} {route.path_format}"

    # Responses

    def test_valid_requests_succeed(self, server: RunningServer) -> None:
        for name, fields in self.variants():
            before = finished_tasks(server)
            response = self.post(server, fields)
            assert response.status == 200, f"{name}: status {response.status}: {response.body[:1000]!r}"
            assert response.complete, f"{name}: the server aborted the response after {len(response.body)} bytes"
            tasks = [task for task, count in finished_tasks(server).items() if count > before.get(task, 0)]
            known = {each.task for each in self.api.request_types}
            assert set(tasks) <= known, f"{name}: submits {tasks} requests; request_types has {sorted(known)}"

    def test_plain_and_streamed_output_agree(self, server: RunningServer) -> None:
        if not self.stream:
            pytest.skip("responses are either all plain or all streamed")
        (_, plain), (_, streamed) = self.variants()
        outputs = [self.output(self.post(server, fields)) for fields in (plain, streamed)]
        assert outputs[0] == outputs[1], f"non-streaming output {outputs[0]!r}, streaming output {outputs[1]!r}"

    def test_unknown_fields_are_listed_or_rejected(self, server: RunningServer) -> None:
        for name, fields in self.variants():
            response = self.post(server, {**fields, UNKNOWN_FIELD: 1})
            if response.status == 200:
                listed = UNKNOWN_FIELD in response.headers.get("x-mlx-host-ignored", "")
                assert listed, f"{name}: an unknown field is neither rejected nor listed in x-mlx-host-ignored"
            else:
                assert 400 <= response.status < 500, f"{name}: status {response.status} for an unknown field"
                assert UNKNOWN_FIELD.encode() in response.body, f"{name}: the error does not name the unknown field"

    # Errors

    def test_error_bodies_contain_the_message(self, rejection: Response) -> None:
        assert rejection.status_code == 400, f"`error` returns status {rejection.status_code}, expected 400"
        assert MESSAGE.encode() in bytes(rejection.body), f"`error` does not include the message: {rejection.body!r}"

    def test_unknown_paths_are_rejected(self, server: RunningServer, rejection: Response) -> None:
        for prefix in self.api.prefixes:
            path = f"{prefix.rstrip('/')}/no/such/endpoint"
            check_error(server.request("GET", path), rejection, f"GET {path}", 404)

    def test_unsupported_methods_are_rejected(
        self, server: RunningServer, routes: list[Route], rejection: Response
    ) -> None:
        supported = {method for route in routes if route.path == self.path for method in route.methods or ()}
        method = next((each for each in METHODS if each not in supported), None)
        if method is None:
            pytest.skip("the path supports every method")
        check_error(server.request(method, self.path), rejection, f"{method} {self.path}", 405)

    def test_too_large_bodies_are_rejected(self, server: RunningServer, rejection: Response) -> None:
        connection = server.connect(self.timeout)
        try:
            connection.putrequest("POST", self.path)
            connection.putheader("Content-Type", self.encode(self.body)[1])
            connection.putheader("Content-Length", str(TERABYTE))
            connection.endheaders()
            check_error(read(connection.getresponse()), rejection, "a body of 1 TB", 413)
        finally:
            connection.close()

    def test_other_content_types_are_rejected(self, server: RunningServer, rejection: Response) -> None:
        body, _ = self.encode(self.body)
        for content_type in ("text/plain", "application/x-www-form-urlencoded"):
            response = server.request("POST", self.path, body, {"Content-Type": content_type})
            check_error(response, rejection, f"a body of type {content_type}", 415)

    def test_malformed_bodies_are_rejected(self, server: RunningServer, rejection: Response) -> None:
        body, content_type = self.encode(self.body)
        bodies = [b"", body[: len(body) // 2]]
        if content_type == "application/json":
            bodies += [b"[]", b"null", b'"text"', b"\xff" + body, b'{"a":NaN}', b'{"a":' + b"[" * 10_000]
        for malformed in bodies:
            response = server.request("POST", self.path, malformed, {"Content-Type": content_type})
            check_error(response, rejection, f"the body {malformed[:100]!r}")

    def test_wrong_types_are_rejected(self, server: RunningServer, rejection: Response) -> None:
        if self.encode(self.body)[1] != "application/json":
            pytest.skip("the fields of the body have no JSON types")
        _, fields = self.variants()[-1]
        for field, value in fields.items():
            wrong: object = "text" if isinstance(value, Mapping) else {"unexpected": [1]}
            response = self.post(server, {**fields, field: wrong})
            check_error(response, rejection, f"the value {wrong!r} of {field!r}")
            assert field.encode() in response.body, f"the error does not name {field!r}: {response.body!r}"

    def test_invalid_requests_are_rejected(self, server: RunningServer, rejection: Response) -> None:
        if not self.invalid:
            pytest.skip("`invalid` is empty")
        for name, fields in self.variants():
            for change in self.invalid:
                check_error(self.post(server, {**fields, **change}), rejection, f"{name} with {change!r}")

    # Concurrent requests

    def test_requests_beyond_capacity_get_a_status(self, server: RunningServer, rejection: Response) -> None:
        for name, fields in self.variants():
            with self.running_request(server, fields):
                check_error(self.post(server, fields), rejection, f"{name} beyond the capacity of the model", 429)

    def test_disconnecting_cancels(self, server: RunningServer) -> None:
        for name, fields in self.variants():
            with self.running_request(server, fields) as disconnect:
                disconnect()
                cancelled = wait_until(lambda: server.running() == 0, self.timeout)
            assert cancelled, f"{name}: the request is still running {self.timeout:g} s after its client disconnected"

    @classmethod
    def variants(cls) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the fields of a plain and a streamed request, if the API has both, each with a name."""
        plain, streamed = ("a plain request", cls.body), ("a streamed request", {**cls.body, **(cls.stream or {})})
        if not cls.stream:
            return [plain if cls.stream is None else streamed]
        return [plain, streamed]

    @classmethod
    def post(cls, server: RunningServer, fields: Mapping[str, Any]) -> HttpResponse:
        body, content_type = cls.encode(fields)
        return server.request("POST", cls.path, body, {"Content-Type": content_type})

    @classmethod
    @contextmanager
    def running_request(cls, server: RunningServer, fields: Mapping[str, Any]) -> Iterator[Callable[[], None]]:
        """Keep a request running by suspending the model; yield a function that disconnects its client."""
        assert wait_until(lambda: server.running() == 0, cls.timeout), "an earlier request is still running"
        body, content_type = cls.encode(fields)
        connection = server.connect(cls.timeout)
        try:
            with server.suspended_models():
                connection.request("POST", cls.path, body, {"Content-Type": content_type})
                reached = wait_until(lambda: server.running() == 1, cls.timeout)
                assert reached, f"the request {fields!r} never occupies a slot of the model"
                yield connection.close
        finally:
            connection.close()
        # The model is resumed now, so a request that was not cancelled finishes.
        wait_until(lambda: server.running() == 0, cls.timeout)


def is_below(path: str, prefix: str) -> bool:
    """Return whether errors at this path have the format of this prefix."""
    return path == prefix or path.startswith(f"{prefix.rstrip('/')}/")


def flags_of_run(config: pytest.Config) -> set[str]:
    """Return the flags that `mlx-host run --help-all` lists."""
    if _FLAGS not in config.stash:
        command = [sys.executable, "-m", "mlx_host", "run", "--help-all"]
        wide = {**environment(), "COLUMNS": "300", "TERM": "dumb"}
        text = subprocess.run(command, env=wide, capture_output=True, text=True, check=True).stdout
        config.stash[_FLAGS] = set(re.findall(r"--[\w-]+", text))
    return config.stash[_FLAGS]


def finished_tasks(server: RunningServer) -> dict[str, float]:
    """Return the number of finished requests by task, from /metrics."""
    counts: dict[str, float] = {}
    for task, count in FINISHED.findall(server.request("GET", "/metrics").text):
        counts[task] = counts.get(task, 0) + float(count)
    return counts


def check_error(response: HttpResponse, rejection: Response, what: str, status: int | None = None) -> None:
    """Check that an error has the expected status, and a body in the format of `rejection`."""
    expected = "a status from 400 to 499" if status is None else f"status {status}"
    is_expected = 400 <= response.status < 500 if status is None else response.status == status
    assert is_expected, f"{what} gets status {response.status}, expected {expected}: {response.body[:1000]!r}"
    assert response.body, f"the error for {what} has no body"
    media_type = rejection.headers.get("content-type", "").partition(";")[0]
    assert response.media_type == media_type, (
        f"the error for {what} has type {response.media_type!r}, expected {media_type!r}"
    )
    if media_type == "application/json":
        actual, api_format = shape_of(response.json()), shape_of(json.loads(bytes(rejection.body)))
        assert actual == api_format, f"the error for {what} has the format {actual!r}, expected {api_format!r}"


def shape_of(value: object) -> object:
    """Return a JSON value with every scalar replaced by an ellipsis."""
    match value:
        case dict():
            return {key: shape_of(inner) for key, inner in value.items()}
        case list():
            return [shape_of(inner) for inner in value]
    return ...

"""FastAPI's OpenAPI document, with the errors in each API's format."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.routing import Route

from mlx_host.errors import InvalidRequestError, ModelUnavailableError, QueueFullError, RequestError

if TYPE_CHECKING:
    from mlx_host._http.app import MountedApi

log = logging.getLogger(__name__)

INVALID = InvalidRequestError("temperature: must be at most 2, got 3.", param="temperature")
# Errors of every endpoint that submits requests to a model.
MODEL_ERRORS = (
    QueueFullError("Too many requests. Service is at capacity.", retry_after=1),
    ModelUnavailableError("Model 'm' is restarting.", retry_after=1),
)
# The schemas of FastAPI's own validation errors, which are never sent.
FASTAPI_ERRORS = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI, apis: Iterable[MountedApi]) -> None:
    """Let `app.openapi()` return a document with the handlers' docstrings and the APIs' error responses."""
    original = app.openapi
    mounted = list(apis)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = original()
            _describe(document, mounted)
            app.openapi_schema = document
        return app.openapi_schema

    # FastAPI documents this as the way to extend the document.
    app.openapi = openapi  # type: ignore[method-assign]


# The members of an error in OpenAI's format that only some errors have.
NULLABLE = ("param", "code")


def _describe(document: dict[str, Any], apis: Iterable[MountedApi]) -> None:
    for api in apis:
        for route in api.routes:
            for method in route.methods or ():
                operation = document["paths"].get(route.path_format, {}).get(method.lower())
                if operation is None:
                    continue
                _summarize(operation)
                _restore_nulls(operation, route)
                responses = operation["responses"]
                responses.pop(str(HTTPStatus.UNPROCESSABLE_ENTITY.value), None)
                if "requestBody" in operation or "parameters" in operation:
                    _add_error(responses, api, INVALID)
                if "requestBody" in operation and api.submits:
                    for error in MODEL_ERRORS:
                        _add_error(responses, api, error)
                # Other statuses, such as 404, 409 and 413, have the same format.
                _add_error(responses, api, INVALID, "4XX")
    for name in FASTAPI_ERRORS:
        document.get("components", {}).get("schemas", {}).pop(name, None)


def _summarize(operation: dict[str, Any]) -> None:
    """Replace FastAPI's summary, the name of the handler, by the first sentence of its docstring."""
    first, _, rest = operation.pop("description", "").partition("\n")
    if first:
        operation["summary"] = first.removesuffix(".")
    if rest.strip():
        operation["description"] = rest.strip()


def _restore_nulls(operation: dict[str, Any], route: Route) -> None:
    """Set the examples of a route again, because FastAPI removes nulls from them."""
    responses = getattr(route, "responses", None) or {}
    bodies = [(operation["responses"].get(str(status)), given) for status, given in responses.items()]
    extra = getattr(route, "openapi_extra", None) or {}
    bodies.append((operation.get("requestBody"), extra.get("requestBody", {})))
    for described, given in bodies:
        for media_type, content in given.get("content", {}).items():
            if described is not None and "example" in content:
                described["content"][media_type]["example"] = content["example"]


def _add_error(responses: dict[str, Any], api: MountedApi, error: RequestError, statuses: str | None = None) -> None:
    """Describe the response for an error, for its status or a range of statuses such as `4XX`."""
    try:
        response = api.endpoints.error(error)
        text = bytes(response.body).decode()
        example = json.loads(text) if "json" in (response.media_type or "") else text
    except Exception:
        # The other APIs are still documented.
        log.exception("%s failed to format an error for the OpenAPI document", api)
        return
    content = {response.media_type or "text/plain": {"schema": _schema(example), "example": example}}
    status = statuses or str(response.status_code)
    description = HTTPStatus(response.status_code).phrase if statuses is None else "Any other client error"
    responses.setdefault(status, {"description": description, "content": content})


def _schema(example: Any) -> dict[str, Any]:
    """Return the schema of an error's body; a field that is null in one error may be a string in another."""
    match example:
        case dict():
            properties = {name: _schema(None if name in NULLABLE else value) for name, value in example.items()}
            return {"type": "object", "properties": properties}
        case str():
            return {"type": "string"}
        case None:
            return {"type": ["string", "null"]}
        case _:
            return {}

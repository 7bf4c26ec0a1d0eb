"""Examples for the OpenAPI document, as arguments of a route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JSON = "application/json"


def examples(
    request: Any = None,
    response: Any = None,
    *,
    request_type: str = JSON,
    response_type: str = JSON,
    request_schema: Mapping[str, Any] | None = None,
    stream: str | None = None,
    statuses: Mapping[int, Any] = {},
) -> dict[str, Any]:
    """Return the arguments of a route decorator that describe it in `/openapi.json`.

        @router.post("/v1/shout", response_model=None, **examples({"text": "hello"}, {"text": "HELLO"}))

    `request` and `response` are example bodies, `stream` is the beginning of an example stream. `request_schema`
    describes a body that FastAPI cannot derive from the handler, such as a form. `statuses` maps additional statuses to
    example bodies. Errors are documented without this, in the API's format.
    """
    content: dict[str, Any] = {}
    if response is not None:
        content[response_type] = {"example": response}
    if stream is not None:
        content["text/event-stream"] = {"example": stream}
    described: dict[str, Any] = {"responses": {status: _json(body) for status, body in statuses.items()}}
    if content:
        described["responses"][200] = {"content": content}
    if request is not None or request_schema is not None:
        body = {} if request is None else {"example": request}
        if request_schema is not None:
            body["schema"] = request_schema
        required = {} if request_schema is None else {"required": True}
        described["openapi_extra"] = {"requestBody": {**required, "content": {request_type: body}}}
    return described


def _json(body: Any) -> dict[str, Any]:
    return {"content": {JSON: {"example": body}}}

"""Every error leaves with OpenAI's body, {"error": {"message", "type", "param", "code"}}, or with its dialect's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from mlx_host.api.json_io import JsonResponse, Refusal
from mlx_host.errors import InvalidRequest, RequestError

# What a union's member that was tried is called in pydantic's path; the client knows only its own keys.
MEMBERS = ("list[", "dict[", "tagged-union[", "function-")
# What is wrong with a body that is no object, by pydantic's name for it.
NO_OBJECT = {"missing": "The body is empty", "model_attributes_type": "The body is JSON, but no object"}
FAULT = "The server failed on this request; its log says why."


def body(error: RequestError) -> dict[str, Any]:
    """Make OpenAI's error body."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def headers(error: RequestError) -> dict[str, str]:
    """Make the headers that say when to ask again, and whether: the SDKs do so of their own accord."""
    after = {"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after is not None else {}
    return after if error.retryable else {**after, "x-should-retry": "false"}


def response(error: RequestError, status: int | None = None) -> Response:
    """Make the JSON response that refuses a request."""
    return JsonResponse(body(error), status or error.status, headers(error))


class Respond(Protocol):
    """How a dialect shapes the response that refuses a request, with the error's own status or another."""

    def __call__(self, error: RequestError, status: int | None = None) -> Response: ...


class WrongAddress(InvalidRequest):
    """There is nothing at this path, or not for this method."""

    status = 404
    code = "not_found"


class WrongContentType(InvalidRequest):
    """The body says that it is no JSON."""

    status = 415
    code = "unsupported_media_type"


class InternalError(RequestError):
    """A fault of ours."""

    code = "internal_error"


def explain(faults: Sequence[Any]) -> InvalidRequest:
    """Make one error of what pydantic says; it names the first wrong field and counts the others."""
    first = faults[0]
    if first["loc"] == ("body",) and first["type"] in NO_OBJECT:
        return InvalidRequest(f"{NO_OBJECT[first['type']]}; send an object with the fields of the request.")
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    where = [part for part in where if not part.startswith(MEMBERS) and part != "str"]
    param = ".".join(where) or None
    message = first["msg"].removeprefix("Value error, ")
    message = f"{param}: {message}" if param else message
    if len(faults) > 1:
        message += f" (and {len(faults) - 1} more)"
    return InvalidRequest(f"{message}.".replace("..", "."), param=param)


def install(app: FastAPI, respond: Respond = response) -> None:
    """Make the application answer every error as `respond` shapes it."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return respond(error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = error.errors()
        if faults[0]["loc"] == ("body",) and isinstance(faults[0]["input"], bytes):
            # FastAPI leaves unread what does not call itself JSON: any web page may send that to a local server.
            kind = request.headers.get("content-type", "")
            return respond(WrongContentType(f"The body must be sent as application/json, not as {kind!r}."))
        return respond(explain(faults))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error, Refusal):
            return respond(error.error)
        if error.status_code == HTTPStatus.NOT_FOUND:
            return respond(WrongAddress(f"There is nothing at {request.method} {request.url.path}."))
        refusal: InvalidRequest
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            refusal = WrongAddress(f"{request.url.path} does not take {request.method}.", code="method_not_allowed")
        else:
            refusal = InvalidRequest(str(error.detail))
        answer = respond(refusal, error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    async def fault(request: Request, error: Exception) -> Response:
        # Starlette raises the error again after this, so that the server logs it.
        return respond(InternalError(FAULT))

    app.add_exception_handler(RequestError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, fault)

"""Error responses in OpenAI's format, and the errors of the HTTP layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastapi.responses import Response

from mlx_host._validation import field_path, reason
from mlx_host.api.json_io import JsonResponse
from mlx_host.api.service import ModelStatus
from mlx_host.errors import EngineError, InvalidRequestError, RequestError

# Prefixes of the path components that pydantic adds for the members of a union.
UNION_MEMBERS = ("list[", "dict[", "tagged-union[", "function-")
# Path components that FastAPI adds for the part of the request.
SOURCES = ("body", "query", "path")
# Messages for bodies that are not JSON objects, by pydantic's error type.
NOT_AN_OBJECT = {
    "missing": "The request body is empty",
    "model_attributes_type": "The request body is not a JSON object",
}
INTERNAL_ERROR = "The server failed to process the request; see its log for details."


def openai_body(error: RequestError) -> dict[str, Any]:
    """Return the error body of OpenAI's API."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def retry_headers(error: RequestError) -> dict[str, str]:
    """Return the headers by which SDKs decide whether and when to retry."""
    after = {"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after is not None else {}
    return after if error.retryable else {**after, "x-should-retry": "false"}


def openai_error(error: RequestError) -> Response:
    """Return the error response of OpenAI's API."""
    return JsonResponse(openai_body(error), error.status, retry_headers(error))


class RouteNotFoundError(InvalidRequestError):
    """No endpoint has this path."""

    status = 404
    code = "not_found"


class UnsupportedMediaTypeError(InvalidRequestError):
    """The body has a content type or an encoding that the endpoint does not accept."""

    status = 415
    code = "unsupported_media_type"


class HttpStatusError(InvalidRequestError):
    """An error that the web framework raised, with the framework's status."""

    def __init__(self, status: int, message: str, *, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status


class InternalError(RequestError):
    """An unexpected exception in the server."""

    code = "internal_error"


class BackendContractError(EngineError):
    """A model's output violates the backend contract.

    `fault` is the predicate of a sentence about the model, such as "returned a value that is not finite".
    """

    def __init__(self, model: ModelStatus, fault: str) -> None:
        backend = f" (backend {model.backend!r})" if model.backend else ""
        super().__init__(f"Model {model.name!r}{backend} {fault}; this is a bug in the backend.")


def validation_error(errors: Sequence[Any]) -> InvalidRequestError:
    """Convert pydantic's errors to one that names the first invalid field and counts the others."""
    first = errors[0]
    if first["loc"] == ("body",) and first["type"] in NOT_AN_OBJECT:
        return InvalidRequestError(f"{NOT_AN_OBJECT[first['type']]}; send an object with the fields of the request.")
    by_field: dict[str, list[Any]] = {}
    for error in errors:
        by_field.setdefault(field_path(_path(error["loc"])), []).append(error)
    # An error inside a member of a union is more specific than the errors of the other members.
    fields = [one for one in by_field if not any(other.startswith((f"{one}[", f"{one}.")) for other in by_field)]
    param = fields[0]
    message = reason(by_field[param], private=True)
    message = f"{param}: {message}" if param else message
    if len(fields) > 1:
        message += f" (and {len(fields) - 1} more)"
    return InvalidRequestError(f"{message}.".replace("..", "."), param=param or None)


def _path(location: Sequence[str | int]) -> list[str | int]:
    """Return the path of a field in the request, without the names that pydantic adds for members of a union."""
    return [
        step
        for step in location
        if isinstance(step, int) or not (step in (*SOURCES, "str") or step.startswith(UNION_MEMBERS))
    ]

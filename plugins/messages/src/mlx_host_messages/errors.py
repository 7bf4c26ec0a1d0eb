"""Errors as Anthropic's clients read them: {"type": "error", "error": {"type", "message"}}."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response
from mlx_host.api import errors, sse
from mlx_host.api.json_io import JsonResponse
from mlx_host.errors import ContextLengthExceeded, RequestError

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def body(error: RequestError, status: int | None = None) -> dict[str, Any]:
    """Make Anthropic's error body; its types go by the status."""
    status = status or error.status
    kind = TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": _message(error)}}


def _message(error: RequestError) -> str:
    if isinstance(error, ContextLengthExceeded):
        # The wording is what clients look for when they decide to compact the conversation.
        return f"prompt is too long: {error.prompt_tokens} tokens > {error.limit} maximum"
    return error.message


def response(error: RequestError, status: int | None = None) -> Response:
    """Make the response that refuses a request."""
    return JsonResponse(body(error, status), status or error.status, errors.headers(error))


def event(error: RequestError) -> str:
    """Write the last event of a stream that fails."""
    return f"event: error\n{sse.event(body(error))}"

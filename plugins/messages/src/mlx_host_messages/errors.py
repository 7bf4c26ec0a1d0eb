"""Errors in the format of Anthropic's API: {"type": "error", "error": {"type", "message"}}."""

from __future__ import annotations

import re
from typing import Any

from fastapi.responses import Response
from mlx_host.api.http import JsonResponse, retry_headers
from mlx_host.errors import ContextLengthExceededError, RequestError

# Error types by HTTP status. Source: https://docs.anthropic.com/en/api/errors.
ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
# Error codes that clients with threads use.
DETAILS = ("thread_not_found",)
FIELD_PATH = re.compile(r"^(messages|system|tools)(\[\d+\]|\.\w+)+")
INDEX = re.compile(r"\[(\d+)\]")


def error_body(error: RequestError) -> dict[str, Any]:
    """Return the body of an error response; the error type depends on the status."""
    error_type = ERROR_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    details = {"details": {"error_code": error.code}} if error.code in DETAILS else {}
    return {"type": "error", "error": {"type": error_type, "message": _message(error), **details}}


def _message(error: RequestError) -> str:
    if isinstance(error, ContextLengthExceededError):
        # Clients match this wording to decide whether to compact the conversation.
        return f"prompt is too long: {error.prompt_tokens} tokens > {error.limit} maximum"
    # Anthropic's API writes messages.0.content for messages[0].content.
    return FIELD_PATH.sub(lambda path: INDEX.sub(r".\1", path[0]), error.message, count=1)


def error_response(error: RequestError) -> Response:
    """Return the error response."""
    return JsonResponse(error_body(error), error.status, retry_headers(error))

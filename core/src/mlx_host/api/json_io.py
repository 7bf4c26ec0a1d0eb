"""Strict parsing of JSON request bodies, and responses that are always valid JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn
from urllib.parse import quote

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mlx_host.errors import InvalidRequestError, RequestError
from mlx_host.parsing.arguments import replace_surrogates

# More than any JSON schema needs, and within Python's limit for code that recurses over a request.
MAX_DEPTH = 100
# Proxies limit the size of headers.
MAX_IGNORED = 40
MAX_IGNORED_LENGTH = 60

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def dumps(value: Any) -> str:
    """Return a value as compact JSON."""
    return _encode(value)


def utf8(text: str) -> bytes:
    """Encode text; an unpaired surrogate, which UTF-8 cannot represent, becomes a question mark."""
    return text.encode(errors="replace")


class HTTPExceptionAdapter(HTTPException):
    """Carries a RequestError through FastAPI, which passes on no other exception while it reads a body."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.status, error.message)
        self.error = error


class _InvalidConstantError(ValueError):
    """A constant that Python's parser accepts and JSON does not have, such as NaN."""


def _reject_constant(name: str) -> NoReturn:
    raise _InvalidConstantError(f"{name} is not a JSON value")


def loads(body: bytes, what: str = "The request body", *, replaced_surrogates: Callable[[], None] | None = None) -> Any:
    """Parse JSON strictly: valid UTF-8, standard numbers, at most MAX_DEPTH levels; raises InvalidRequestError.

    `what` is the subject of the error message. If `replaced_surrogates` is given, unpaired surrogates become U+FFFD,
    and it is called if there are any.
    """
    too_deep = f"{what} is nested too deeply; the limit is {MAX_DEPTH} levels."
    try:
        # `json.loads(body)` would also accept UTF-16 and unpaired surrogates.
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_reject_constant)
        surrogates = _unpaired_surrogates(value) if b"\\u" in body else None
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{what} is not valid Unicode: {error.reason}.") from None
    except RecursionError:
        raise InvalidRequestError(too_deep) from None
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"{what} is not valid JSON: {error.msg} at character {error.pos}.") from None
    except _InvalidConstantError as error:
        raise InvalidRequestError(f"{what} is not valid JSON: {error}.") from None
    except ValueError:
        # Python's message explains how to change its limit, which a client cannot do.
        raise InvalidRequestError(f"{what} has an integer with too many digits.") from None
    # With fewer brackets than that, it cannot be too deep.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_deep(value):
        raise InvalidRequestError(too_deep)
    if surrogates is None:
        return value
    if replaced_surrogates is None:
        raise InvalidRequestError(f"{what} is not valid Unicode: {surrogates.reason}.")
    replaced_surrogates()
    return _without_surrogates(value)


def _unpaired_surrogates(value: Any) -> UnicodeEncodeError | None:
    try:
        _encode(value).encode()
    except UnicodeEncodeError as error:
        return error
    return None


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return replace_surrogates(value)
        case list():
            return [_without_surrogates(each) for each in value]
        case dict():
            return {replace_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return value


def _is_deep(value: Any) -> bool:
    """Whether a value has more than MAX_DEPTH levels."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [each for outer in level if isinstance(outer, list | dict) for each in _members(outer)]
        if not level:
            return False
    return True


def _members(outer: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return outer.values() if isinstance(outer, dict) else outer


class JsonResponse(JSONResponse):
    """A JSON response."""

    def render(self, content: Any) -> bytes:
        return utf8(dumps(content))


def ignored_header(fields: Sequence[str]) -> dict[str, str]:
    """Return the header that lists the request fields that had no effect."""
    # Field names come from the client: they can be of any length, number and content.
    names = [quote(field[:MAX_IGNORED_LENGTH], safe="", errors="replace") for field in fields[:MAX_IGNORED]]
    if len(fields) > MAX_IGNORED:
        names.append("...")
    return {"x-mlx-host-ignored": ", ".join(names)} if names else {}

"""JSON as it comes in, strictly, and as it goes out, always valid."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, NoReturn
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from mlx_host.errors import InvalidRequest, RequestError

# More than any schema needs, and few enough for everything that walks through a request by recursion.
DEEPEST = 100
# A header must stay short enough for proxies.
MOST_IGNORED = 40
IGNORED_LENGTH = 60

_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def text(value: Any) -> str:
    """Write a value as JSON text."""
    return _write(value)


def encoded(written: str) -> bytes:
    """Encode JSON text; half a surrogate pair, which UTF-8 cannot hold, becomes a question mark."""
    return written.encode(errors="replace")


class Refusal(HTTPException):
    """A RequestError on its way through FastAPI, which lets only this class pass while it reads a body."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.status, error.message)
        self.error = error


class _NoNumber(ValueError):
    """One of the words that Python takes for numbers, and JSON does not."""


def _constant(name: str) -> NoReturn:
    raise _NoNumber(f"{name} is no JSON")


def parse(body: bytes, what: str = "The body") -> Any:
    """Read JSON; InvalidRequest, whose sentence begins with `what`, where the standard, our depth or UTF-8 is left."""
    too_deep = f"{what} is nested too deeply; at most {DEEPEST} levels are taken."
    try:
        # Left to itself, `loads` takes UTF-16, and the bytes of half a surrogate pair.
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_constant)
        if b"\\u" in body:
            _write(value).encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"{what} is not valid Unicode: {error.reason}.") from None
    except RecursionError:
        raise InvalidRequest(too_deep) from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{what} is not valid JSON: {error.msg} at character {error.pos}.") from None
    except _NoNumber as error:
        raise InvalidRequest(f"{what} is not valid JSON: {error}.") from None
    except ValueError:
        # Python's own sentence tells who runs the server how to change its limit.
        raise InvalidRequest(f"{what} holds an integer of more digits than this server reads.") from None
    # What does not have so many brackets need not be looked at.
    if body.count(b"[") + body.count(b"{") > DEEPEST and _is_deep(value):
        raise InvalidRequest(too_deep)
    return value


def _is_deep(value: Any) -> bool:
    """Whether a value is nested more deeply than is taken."""
    level = [value]
    for _ in range(DEEPEST):
        level = [each for outer in level if isinstance(outer, list | dict) for each in _members(outer)]
        if not level:
            return False
    return True


def _members(outer: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return outer.values() if isinstance(outer, dict) else outer


class JsonResponse(JSONResponse):
    """A JSON answer."""

    def render(self, content: Any) -> bytes:
        return encoded(text(content))


def ignored_header(fields: Sequence[str]) -> dict[str, str]:
    """Make the header that lists the fields of a request that changed nothing."""
    # Their names are the client's: anything could stand in them, and any number could be given.
    names = [quote(field[:IGNORED_LENGTH], safe="", errors="replace") for field in fields[:MOST_IGNORED]]
    if len(fields) > MOST_IGNORED:
        names.append("...")
    return {"x-mlx-host-ignored": ", ".join(names)} if names else {}


class JsonRequest(Request):
    """A request whose JSON is read strictly."""

    async def json(self) -> Any:
        try:
            return parse(await self.body())
        except InvalidRequest as error:
            raise Refusal(error) from None


class JsonRoute(APIRoute):
    """An endpoint that gets JsonRequests."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return strict

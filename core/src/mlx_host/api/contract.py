"""What an API plugin registers: an `Api` names an endpoint family, and its `Endpoints` serve it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from mlx_host.api.service import Service
from mlx_host.requests import Request

if TYPE_CHECKING:
    from fastapi import APIRouter
    from starlette.responses import Response

    from mlx_host.errors import RequestError


class ApiSettings(BaseModel):
    """The base of every API's settings: unknown keys are rejected, field descriptions are the help texts.

    The field `port` of the API `ollama` is the flag `--ollama-port`, the key `port` of `[apis.ollama]` and the
    variable `MLX_HOST_OLLAMA_PORT`. `legacy_names` are former names of fields, such as `response_store` for `store`:
    they still work as flags, variables and top-level keys.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    legacy_names: ClassVar[Mapping[str, str]] = {}

    port: int | None = Field(
        None, ge=0, le=65535, description="Also serve this API, and nothing else, on this port; 0 takes a free one."
    )


SettingsT = TypeVar("SettingsT", bound=ApiSettings)


class Endpoints(ABC):
    """The endpoints of one API in one server; made once, so its attributes can hold the API's state."""

    @abstractmethod
    def router(self) -> APIRouter:
        """Return the routes, made with `mlx_host.api.http.new_router()`; called once, before the server listens."""

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Return the context that is entered before the server listens and left after it has drained."""
        return nullcontext()

    def error(self, error: RequestError) -> Response:
        """Return the response for a rejected request below one of `Api.prefixes`; OpenAI's format by default."""
        from mlx_host.api.errors import openai_error

        return openai_error(error)


@dataclass(frozen=True, kw_only=True)
class Api(Generic[SettingsT]):
    """An endpoint family.

    `name` is the key of `[apis.NAME]` and the value of `--disable-api`. `create` imports what it needs, so that naming
    an API costs nothing. Errors below the path `prefixes` have the format of `Endpoints.error`; the longest prefix
    wins. `request_types` are the requests it submits: they tell users which backends it needs.
    """

    name: str
    settings: type[SettingsT]
    create: Callable[[Service, SettingsT], Endpoints]
    prefixes: tuple[str, ...] = ()
    request_types: tuple[type[Request], ...] = ()
    summary: str = ""

"""The interface of API plugins: an `Api` describes an endpoint family, and its `Endpoints` serve it."""

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
    """Base class of an API's settings: unknown keys are rejected, and field descriptions are help texts.

    The field `port` of the API `ollama` is the flag `--ollama-port`, the key `port` of `[apis.ollama]` and the
    variable `MLX_HOST_OLLAMA_PORT`. `legacy_names` are former names of fields, such as `response_store` for `store`:
    they still work as flags, variables and top-level keys.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    legacy_names: ClassVar[Mapping[str, str]] = {}

    port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port on which only this API is served, in addition to --port; 0 selects a free port.",
    )


SettingsT = TypeVar("SettingsT", bound=ApiSettings)


class Endpoints(ABC):
    """The endpoints of one API in one server. Created once, so attributes can hold the API's state."""

    @abstractmethod
    def router(self) -> APIRouter:
        """Return a router created with `mlx_host.api.http.new_router()`; called once, before the server listens."""

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Return the context that is entered before the server listens and left after it has drained."""
        return nullcontext()

    def error(self, error: RequestError) -> Response:
        """Return the error response for a path below one of `Api.prefixes`; by default in OpenAI's format."""
        from mlx_host.api.errors import openai_error

        return openai_error(error)


@dataclass(frozen=True, kw_only=True)
class Api(Generic[SettingsT]):
    """An endpoint family.

    `name` is the key of `[apis.NAME]` and the value of `--disable-api`. `create` should import its dependencies
    itself, so that listing APIs stays fast. Errors below the path `prefixes` have the format of `Endpoints.error`; the
    longest prefix wins. `request_types` are the types of requests that it submits, and so determine which backends it
    needs.
    """

    name: str
    settings: type[SettingsT]
    create: Callable[[Service, SettingsT], Endpoints]
    prefixes: tuple[str, ...] = ()
    request_types: tuple[type[Request], ...] = ()
    summary: str = ""

"""OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mlx_host.api import Api, ApiSettings, Endpoints, Service
from mlx_host.requests import ChatRequest, ExplainRequest


class ResponsesSettings(ApiSettings):
    """The location and the limits of the response store."""

    legacy_names: ClassVar[Mapping[str, str]] = {
        "response_store": "store",
        "response_store_entries": "store_entries",
        "response_store_mb": "store_mb",
        "response_store_ttl": "store_ttl",
    }

    store: Path | None = Field(
        None,
        description="SQLite file that stores responses and conversations; by default they are in memory.",
    )
    store_entries: int = Field(
        1000,
        ge=0,
        description="Maximum number of stored responses and of conversations; the least recently used are evicted.",
    )
    store_mb: float = Field(
        100, ge=0, description="Maximum size of all stored responses and conversations, in megabytes."
    )
    store_ttl: float = Field(
        30 * 24 * 3600, gt=0, description="Seconds after its last use until a stored response or conversation expires."
    )


def create(service: Service, settings: ResponsesSettings) -> Endpoints:
    """Create the endpoints."""
    from mlx_host._apis.responses.routes import ResponsesEndpoints

    return ResponsesEndpoints(service, settings)


RESPONSES = Api(
    name="responses",
    summary="OpenAI's Responses API",
    settings=ResponsesSettings,
    create=create,
    prefixes=("/v1/responses", "/v1/conversations", "/v1/explain/responses"),
    request_types=(ChatRequest, ExplainRequest),
)

"""Registers Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from mlx_host import hookimpl
from mlx_host.api import Api, ApiSettings, Endpoints, Service
from mlx_host.requests import ChatRequest, ExplainRequest
from pydantic import Field


class MessagesSettings(ApiSettings):
    """Settings of the Messages API."""

    legacy_names: ClassVar[Mapping[str, str]] = {"messages_canonical": "normalize_system_prompt"}

    normalize_system_prompt: bool = Field(
        True,
        description="Remove lines that clients change in every request, such as billing headers and token counts, from "
        "system prompts, because they prevent reuse of the prefix cache.",
    )
    thread_store_entries: int = Field(
        1000, ge=0, description="Maximum number of thread messages in memory; the least recently used are evicted."
    )
    thread_store_mb: float = Field(100, ge=0, description="Maximum size of all thread messages, in megabytes.")


def create(service: Service, settings: MessagesSettings) -> Endpoints:
    """Create the endpoints; imports the web framework."""
    from mlx_host_messages.routes import MessagesEndpoints

    return MessagesEndpoints(service, settings)


MESSAGES = Api(
    name="messages",
    summary="Anthropic's Messages API",
    settings=MessagesSettings,
    create=create,
    prefixes=("/v1/messages", "/v1/explain/messages"),
    request_types=(ChatRequest, ExplainRequest),
)


@hookimpl
def register_apis() -> Iterable[Api[Any]]:
    """Return the Messages API."""
    return (MESSAGES,)

"""OpenAI's chat completions."""

from __future__ import annotations

from mlx_host.api import Api, ApiSettings, Endpoints, Service
from mlx_host.requests import ChatRequest, ExplainRequest


def create(service: Service, settings: ApiSettings) -> Endpoints:
    from mlx_host._apis.chat.routes import ChatEndpoints

    return ChatEndpoints(service)


CHAT = Api(
    name="chat",
    summary="OpenAI's chat completions",
    settings=ApiSettings,
    create=create,
    prefixes=("/v1/chat", "/v1/explain"),
    request_types=(ChatRequest, ExplainRequest),
)

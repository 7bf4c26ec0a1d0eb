"""Tokenization endpoints, compatible with vLLM."""

from __future__ import annotations

from mlx_host.api import Api, ApiSettings, Endpoints, Service
from mlx_host.requests import DetokenizeRequest, TokenizeRequest


def create(service: Service, settings: ApiSettings) -> Endpoints:
    from mlx_host._apis.tokens.routes import TokenEndpoints

    return TokenEndpoints(service)


TOKENS = Api(
    name="tokens",
    summary="vLLM's tokenize and detokenize",
    settings=ApiSettings,
    create=create,
    prefixes=("/tokenize", "/detokenize"),
    request_types=(TokenizeRequest, DetokenizeRequest),
)

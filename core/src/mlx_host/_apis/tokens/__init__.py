"""Tokenization endpoints, compatible with vLLM."""

from __future__ import annotations

from mlx_host.api import Api, ApiSettings, Endpoints, Service
from mlx_host.requests import DetokenizeRequest, TokenizeRequest, TokenizerInfoRequest


def create(service: Service, settings: ApiSettings) -> Endpoints:
    from mlx_host._apis.tokens.routes import TokenEndpoints

    return TokenEndpoints(service)


TOKENS = Api(
    name="tokens",
    summary="vLLM's tokenize, detokenize and tokenizer_info",
    settings=ApiSettings,
    create=create,
    prefixes=("/tokenize", "/detokenize", "/tokenizer_info"),
    request_types=(TokenizeRequest, DetokenizeRequest, TokenizerInfoRequest),
)

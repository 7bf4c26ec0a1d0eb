"""POST /v1/embeddings."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlx_host._apis.embeddings.examples import REQUEST, RESPONSE
from mlx_host._apis.embeddings.request import embedding_request
from mlx_host._apis.embeddings.response import EmbeddingCollector, base64_json, floats_json
from mlx_host._apis.embeddings.schema import EmbeddingBody
from mlx_host.api import Deadline, Endpoints, Service
from mlx_host.api.http import caller, examples, ignored_header, new_router, respond


class EmbeddingEndpoints(Endpoints):
    """The endpoint of the Embeddings API."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def router(self) -> APIRouter:
        router = new_router()
        router.post("/v1/embeddings", response_model=None, **examples(REQUEST, RESPONSE))(self.embed)
        return router

    async def embed(self, body: EmbeddingBody, http: Request) -> Response:
        """Embed texts, token ids or images."""
        reply = self._service.submit(embedding_request(body), caller=caller(http), deadline=Deadline.COMPLETE)
        encode = base64_json if body.encoding_format == "base64" else floats_json
        return await respond(http, reply, EmbeddingCollector(reply, encode), ignored_header(body.ignored()))

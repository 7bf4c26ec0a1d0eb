"""GET /v1/models and /v1/models/{name}."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from mlx_host.api import Endpoints, ModelStatus, Service
from mlx_host.api.http import caller, examples, new_router
from mlx_host.errors import ModelNotFoundError

# For the OpenAPI document.
MODEL = {"id": "demo:smollm2", "object": "model", "created": 1795980616, "owned_by": "mlx-host", "state": "ready"}


def describe(model: ModelStatus) -> dict[str, Any]:
    """Return OpenAI's model object, and the model's state."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "mlx-host",
        "state": model.state.value,
    }


class ModelEndpoints(Endpoints):
    """The endpoints that list models."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def router(self) -> APIRouter:
        router = new_router()

        @router.get("/v1/models", **examples(response={"object": "list", "data": [MODEL]}))
        async def list_models(http: Request) -> dict[str, Any]:
            """List the models."""
            return {"object": "list", "data": [describe(model) for model in self._service.models(caller(http))]}

        # Names may contain slashes, and some SDKs send them unescaped.
        @router.get("/v1/models/{name:path}", **examples(response=MODEL))
        async def get_model(name: str, http: Request) -> dict[str, Any]:
            """Get a model."""
            models = {model.name: model for model in self._service.models(caller(http))}
            if name not in models:
                available = ", ".join(sorted(models))
                raise ModelNotFoundError(f"Model {name!r} not found. Available models: {available}.", param="model")
            return describe(models[name])

        return router

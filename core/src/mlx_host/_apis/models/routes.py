"""GET /v1/models and /v1/models/{name}, compatible with OpenAI's and Anthropic's APIs.

Source: `types/model.py` of the OpenAI SDK, and `types/model_info.py` and `pagination.py` of the Anthropic SDK.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request

from mlx_host.api import Endpoints, ModelStatus, Service
from mlx_host.api.http import caller, examples, new_router
from mlx_host.errors import ModelNotFoundError

# For the OpenAPI document.
MODEL = {
    "id": "demo:smollm2",
    "object": "model",
    "created": 1795980616,
    "owned_by": "mlx-host",
    "state": "ready",
    "type": "model",
    "display_name": "demo:smollm2",
    "created_at": "2026-11-29T19:30:16Z",
    "lifecycle": "active",
    "max_input_tokens": 8192,
}
LIST = {"object": "list", "data": [MODEL], "has_more": False, "first_id": MODEL["id"], "last_id": MODEL["id"]}


def describe(model: ModelStatus) -> dict[str, Any]:
    """Return a model object with the fields of both APIs, and the model's state."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "mlx-host",
        "state": model.state.value,
        "type": "model",
        "display_name": model.name,
        "created_at": datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": None if model.capabilities is None else model.capabilities.context_length,
    }


def describe_list(models: Sequence[ModelStatus]) -> dict[str, Any]:
    """Return a list object; all models are on its only page."""
    names = [model.name for model in models]
    page = {"has_more": False, "first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    return {"object": "list", "data": [describe(model) for model in models], **page}


class ModelEndpoints(Endpoints):
    """The endpoints that list models."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def router(self) -> APIRouter:
        router = new_router()

        @router.get("/v1/models", **examples(response=LIST))
        async def list_models(http: Request) -> dict[str, Any]:
            """List the models."""
            return describe_list(self._service.models(caller(http)))

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

"""GET /health, /health/live, /health/ready and /v1/queue/stats."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from mlx_host.api import Endpoints, ModelState, ModelStatus, Service
from mlx_host.api.http import JsonResponse, new_router

# From worst to best: the state of the server is that of its worst model.
STATES = (
    ModelState.FAILED,
    ModelState.STOPPED,
    ModelState.RESTARTING,
    ModelState.LOADING,
    ModelState.DRAINING,
    ModelState.UNLOADED,
    ModelState.READY,
)


class StatusEndpoints(Endpoints):
    """The endpoints for monitors and load balancers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def _is_ready(self) -> bool:
        return not self._service.stopping and all(model.state is ModelState.READY for model in self._service.models())

    def router(self) -> APIRouter:
        router = new_router()

        @router.get("/health", response_model=None)
        async def health() -> Response:
            ready = self._is_ready()
            models = self._service.models()
            body: dict[str, Any] = {
                "status": "ok" if ready else "unavailable",
                "models": {model.name: model.state.value for model in models},
            }
            if errors := {model.name: _failure(model) for model in models if model.error is not None}:
                body["errors"] = errors
            return JsonResponse(body, 200 if ready else 503)

        @router.get("/health/live")
        async def live() -> dict[str, str]:
            return {"status": "live"}

        @router.get("/health/ready", response_model=None)
        async def ready() -> Response:
            worst = min((model.state for model in self._service.models()), key=STATES.index)
            state = "stopping" if self._service.stopping else worst.value
            return JsonResponse({"status": state}, 200 if self._is_ready() else 503)

        @router.get("/v1/queue/stats")
        async def queue_stats() -> dict[str, Any]:
            each = {model.name: _stats(model) for model in self._service.models()}
            total: dict[str, Any] = {"running": self._is_ready()}
            for key in ("queue_size", "max_queue_size", "active_requests", "max_concurrency"):
                total[key] = sum(stats[key] for stats in each.values())
            return {"status": "ok", "queue_stats": total, "models": each}

        return router


def _failure(model: ModelStatus) -> dict[str, Any]:
    """Return the last error of a model, and the time of the next attempt to load it."""
    if model.retry_at is None:
        return {"message": model.error, "retry_at": None, "retry_in": None}
    retry_at = datetime.fromtimestamp(model.retry_at, UTC).isoformat(timespec="seconds")
    return {"message": model.error, "retry_at": retry_at, "retry_in": round(max(0.0, model.retry_at - time.time()), 1)}


def _stats(model: ModelStatus) -> dict[str, Any]:
    return {
        "running": model.state is ModelState.READY,
        "queue_size": model.waiting,
        "max_queue_size": model.queue_size,
        "active_requests": model.running,
        "max_concurrency": model.concurrency,
    }

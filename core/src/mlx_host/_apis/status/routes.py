"""GET /health, /health/live, /health/ready and /v1/queue/stats."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from mlx_host.api import Endpoints, ModelState, ModelStatus, Service
from mlx_host.api.http import JsonResponse, examples, new_router

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

# Examples for the OpenAPI document.
HEALTH = {"status": "ok", "models": {"demo:smollm2": "ready"}}
UNHEALTHY = {
    "status": "unavailable",
    "models": {"demo:smollm2": "failed"},
    "errors": {
        "demo:smollm2": {
            "message": "The model's process exited 3 times within 60 s.",
            "retry_at": "2026-11-29T19:30:57+00:00",
            "retry_in": 5.0,
        }
    },
}
COUNTS = {"running": True, "queue_size": 0, "max_queue_size": 100, "active_requests": 1, "max_concurrency": 32}
QUEUE = {"status": "ok", "queue_stats": COUNTS, "models": {"demo:smollm2": COUNTS}}


class StatusEndpoints(Endpoints):
    """The endpoints for monitors and load balancers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def _is_ready(self) -> bool:
        return not self._service.stopping and all(model.state is ModelState.READY for model in self._service.models())

    def router(self) -> APIRouter:
        router = new_router()

        @router.get("/health", response_model=None, **examples(response=HEALTH, statuses={503: UNHEALTHY}))
        async def health() -> Response:
            """Report the state of each model; 200 if all are ready, else 503."""
            ready = self._is_ready()
            models = self._service.models()
            body: dict[str, Any] = {
                "status": "ok" if ready else "unavailable",
                "models": {model.name: model.state.value for model in models},
            }
            if errors := {model.name: _failure(model) for model in models if model.error is not None}:
                body["errors"] = errors
            return JsonResponse(body, 200 if ready else 503)

        @router.get("/health/live", **examples(response={"status": "live"}))
        async def live() -> dict[str, str]:
            """Report that the server responds."""
            return {"status": "live"}

        @router.get(
            "/health/ready",
            response_model=None,
            **examples(response={"status": "ready"}, statuses={503: {"status": "loading"}}),
        )
        async def ready() -> Response:
            """Report the worst state of all models; 200 if it is ready, else 503."""
            worst = min((model.state for model in self._service.models()), key=STATES.index)
            state = "stopping" if self._service.stopping else worst.value
            return JsonResponse({"status": state}, 200 if self._is_ready() else 503)

        @router.get("/v1/queue/stats", **examples(response=QUEUE))
        async def queue_stats() -> dict[str, Any]:
            """Count running and queued requests, in total and per model."""
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

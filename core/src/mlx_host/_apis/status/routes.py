"""GET /health, /health/live, /health/ready and /v1/queue/stats: whether the models are up, and who waits for them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from mlx_host._host import Host, ModelState, ServedModel
from mlx_host.api.json_io import JsonResponse

# Worst first: the host is as ready as the worst of its models.
STATES = (ModelState.FAILED, ModelState.STOPPED, ModelState.RESTARTING, ModelState.LOADING, ModelState.READY)


def routes(router: APIRouter, host: Host) -> None:
    """Add the endpoints."""

    @router.get("/health", response_model=None)
    async def health() -> Response:
        models = {name: model.state.value for name, model in host.models.items()}
        return JsonResponse(
            {"status": "ok" if host.ready else "unavailable", "models": models}, 200 if host.ready else 503
        )

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get("/health/ready", response_model=None)
    async def ready() -> Response:
        worst = min((model.state for model in host.models.values()), key=STATES.index)
        state = "stopping" if host.stopping else worst.value
        return JsonResponse({"status": state}, 200 if host.ready else 503)

    @router.get("/v1/queue/stats")
    async def queue_stats() -> dict[str, Any]:
        each = {name: _stats(model) for name, model in host.models.items()}
        total: dict[str, Any] = {"running": host.ready}
        for key in ("queue_size", "max_queue_size", "active_requests", "max_concurrency"):
            total[key] = sum(stats[key] for stats in each.values())
        return {"status": "ok", "queue_stats": total, "models": each}


def _stats(model: ServedModel) -> dict[str, Any]:
    return {
        "running": model.info is not None and model.admission.slots > 0,
        "queue_size": model.admission.waiting,
        "max_queue_size": model.limits.queue_size,
        "active_requests": model.admission.running,
        "max_concurrency": model.admission.slots,
    }

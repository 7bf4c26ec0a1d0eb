"""GET /v1/models: what is served here."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter

from mlx_host._host import Host
from mlx_host.errors import ModelNotFound


def routes(router: APIRouter, host: Host) -> None:
    """Add the endpoints."""
    created = int(time.time())

    def describe(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": "mlx-host"}

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [describe(name) for name in host.models]}

    # Names may contain slashes, which some SDKs send as they are.
    @router.get("/v1/models/{name:path}")
    async def get_model(name: str) -> dict[str, Any]:
        if name not in host.models:
            there_is = ", ".join(sorted(host.models))
            raise ModelNotFound(f"The model {name!r} is not served here; there is: {there_is}.", param="model")
        return describe(name)

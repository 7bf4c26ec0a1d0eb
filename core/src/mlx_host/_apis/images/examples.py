"""Examples for the OpenAPI document."""

from __future__ import annotations

from typing import Any

REQUEST = {"model": "flux2-klein-4b", "prompt": "a red fox in the snow", "size": "512x512", "seed": 7}
EDIT = {"model": "flux2-klein-4b", "prompt": "make it night", "size": "512x512", "seed": 7}
RESPONSE: dict[str, Any] = {
    "created": 1795980652,
    "data": [{"b64_json": "iVBORw0KGgo=", "seed": 7}],
    "background": "opaque",
    "output_format": "png",
    "size": "512x512",
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 9},
        "output_tokens": 1024,
        "total_tokens": 1033,
    },
}
STREAM = (
    'event: image_generation.completed\ndata: {"type":"image_generation.completed","b64_json":"iVBORw0KGgo=",'
    '"created_at":1795980652,"size":"512x512","quality":"auto","background":"opaque","output_format":"png"}\n\n'
)
JOB = {
    "id": "imgjob_3f6b0f4f5e2c4d6e9b7a8c1d2e3f4a5b",
    "object": "image.job",
    "status": "running",
    "created_at": 1795980652,
    "expires_at": None,
    "model": "flux2-klein-4b",
    "seed": 7,
    "n": 1,
    "completed": 0,
    "step": 2,
    "steps": 4,
    "result": None,
    "error": None,
}
EDIT_STREAM = STREAM.replace("image_generation", "image_edit")

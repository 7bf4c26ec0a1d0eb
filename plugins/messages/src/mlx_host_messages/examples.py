"""Examples for the OpenAPI document."""

from __future__ import annotations

from typing import Any

COUNT: dict[str, Any] = {
    "model": "demo:smollm2",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
REQUEST = {**COUNT, "max_tokens": 100, "temperature": 0}
RESPONSE = {
    "id": "msg_919d83228d7742b981378d7791a26f0c",
    "type": "message",
    "role": "assistant",
    "model": "demo:smollm2",
    "content": [{"type": "text", "text": "The capital of France is Paris."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 37,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 8,
        "output_tokens_details": {"thinking_tokens": 0},
    },
}
STREAM = (
    "event: content_block_delta\n"
    'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"The"}}\n\n'
)

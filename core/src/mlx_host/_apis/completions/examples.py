"""Examples for the OpenAPI document."""

from __future__ import annotations

REQUEST = {"model": "demo:smollm2", "prompt": "The capital of France is", "max_tokens": 5, "temperature": 0}
RESPONSE = {
    "id": "cmpl-bc603a2120d947d4bc848eb7fbf16f17",
    "object": "text_completion",
    "created": 1795980652,
    "model": "demo:smollm2",
    "choices": [{"text": " Paris.", "index": 0, "logprobs": None, "finish_reason": "length"}],
    "usage": {
        "prompt_tokens": 5,
        "completion_tokens": 5,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}
STREAM = (
    'data: {"id":"cmpl-bc603a2120d947d4bc848eb7fbf16f17","object":"text_completion","created":1795980652,'
    '"model":"demo:smollm2","choices":[{"text":" Paris","index":0,"logprobs":null,"finish_reason":null}]}'
    "\n\ndata: [DONE]\n\n"
)

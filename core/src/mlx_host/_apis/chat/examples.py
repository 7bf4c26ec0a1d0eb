"""Examples for the OpenAPI document."""

from __future__ import annotations

REQUEST = {
    "model": "demo:smollm2",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
}
RESPONSE = {
    "id": "chatcmpl-55482f8f0d0248a5a193ddb1b5b27669",
    "object": "chat.completion",
    "created": 1795980652,
    "model": "demo:smollm2",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "The capital of France is Paris.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 37,
        "completion_tokens": 8,
        "total_tokens": 45,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}
STREAM = (
    'data: {"id":"chatcmpl-41147d0e5d724d71adf887874f528889","object":"chat.completion.chunk","created":1795980652,'
    '"model":"demo:smollm2","choices":[{"index":0,"delta":{"content":"The"},"logprobs":null,"finish_reason":null}]}'
    "\n\ndata: [DONE]\n\n"
)

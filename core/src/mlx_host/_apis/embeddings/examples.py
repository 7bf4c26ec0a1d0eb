"""Examples for the OpenAPI document."""

from __future__ import annotations

REQUEST = {
    "model": "demo:minilm",
    "input": ["How do I reset my password?", "The cat sat on the mat."],
    "encoding_format": "float",
}
RESPONSE = {
    "object": "list",
    "data": [
        {"object": "embedding", "index": 0, "embedding": [-0.00648, 0.06091, -0.05377]},
        {"object": "embedding", "index": 1, "embedding": [0.13040, -0.01187, -0.02811]},
    ],
    "model": "demo:minilm",
    "usage": {"prompt_tokens": 17, "total_tokens": 17},
}

"""Examples for the OpenAPI document."""

from __future__ import annotations

from typing import Any

ID = "resp_e0fafb62d96245ef933da79f1e46cc08"
PROMPT = {"model": "demo:smollm2", "input": "What is the capital of France?"}
REQUEST = {**PROMPT, "temperature": 0}
RESPONSE: dict[str, Any] = {
    "id": ID,
    "object": "response",
    "created_at": 1795980652,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "model": "demo:smollm2",
    "output": [
        {
            "type": "message",
            "id": "msg_6c058d5841cc4f1b9a27202326322c13",
            "role": "assistant",
            "content": [
                {
                    "type": "output_text",
                    "text": "The capital of France is Paris.",
                    "annotations": [],
                    "logprobs": [],
                }
            ],
            "status": "completed",
        }
    ],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 37,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 45,
    },
    "completed_at": 1795980652,
}
STREAM = (
    'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":4,'
    '"item_id":"msg_6c058d5841cc4f1b9a27202326322c13","output_index":0,"content_index":0,"delta":"The","logprobs":[]}'
    "\n\n"
)
INPUT_TOKENS = {"object": "response.input_tokens", "input_tokens": 37}
INPUT_ITEMS = {
    "object": "list",
    "data": [
        {
            "type": "message",
            "id": "msg_efd668d960034a7298ea72d69b58501a",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_text", "text": "What is the capital of France?"}],
        }
    ],
    "first_id": "msg_efd668d960034a7298ea72d69b58501a",
    "last_id": "msg_efd668d960034a7298ea72d69b58501a",
    "has_more": False,
}
DELETED = {"id": ID, "object": "response", "deleted": True}
CANCELLED = {**RESPONSE, "status": "cancelled"}

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
    "completed_at": 1795980652,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
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
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": True,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 37,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 45,
    },
    "max_output_tokens": None,
    "max_tool_calls": None,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "temperature": 0,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
STREAM = (
    'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":4,'
    '"item_id":"msg_6c058d5841cc4f1b9a27202326322c13","output_index":0,"content_index":0,"delta":"The","logprobs":[]}'
    "\n\n"
)
INPUT_TOKENS = {"object": "response.input_tokens", "input_tokens": 37}
INPUT_ITEMS: dict[str, Any] = {
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
COMPACTION = {
    "id": ID,
    "object": "response.compaction",
    "created_at": 1795980652,
    "output": [
        {
            "type": "compaction",
            "id": "cmp_5bd8c9dc2a2f4f9db43bd2f64a4dd2e1",
            "encrypted_content": "mlx-host.1.eyJpdGVtcyI6W119",
        }
    ],
    "usage": RESPONSE["usage"],
}
CONVERSATION_ITEMS: dict[str, Any] = {"items": [{"role": "user", "content": "What is the capital of France?"}]}
CONVERSATION_CREATE = {**CONVERSATION_ITEMS, "metadata": {"topic": "travel"}}
CONVERSATION_ID = "conv_1d0fd1c7a4d44b2c8b9dd0d2c76d8a54"
CONVERSATION = {
    "id": CONVERSATION_ID,
    "object": "conversation",
    "created_at": 1795980652,
    "metadata": {"topic": "travel"},
}
CONVERSATION_DELETED = {"id": CONVERSATION_ID, "object": "conversation.deleted", "deleted": True}

"""`POST /v1/responses/compact`: a conversation becomes one item with a summary, which replaces it in later requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi.responses import Response

from mlx_host._apis.responses import opaque
from mlx_host._apis.responses.items import Item, new_id
from mlx_host._apis.responses.request import TranslatedRequest, to_prompt
from mlx_host._apis.responses.response_object import usage_json
from mlx_host._apis.responses.schema import CompactBody
from mlx_host.api import ChatEvent, ChoiceDelta, OutputCompleted
from mlx_host.api.http import Collector, JsonResponse, dumps
from mlx_host.parsing import Content

# Conversations up to this number of characters of JSON are kept as they are: a summary would not be shorter.
MAX_VERBATIM = 2000
MAX_SUMMARY_TOKENS = 2048
PROMPT = (
    "Summarize the conversation so far for yourself: your next context contains only this summary. Include the "
    "user's goals and constraints, decisions and their reasons, facts, names, file paths and numbers that matter, what "
    "has been done, what failed, and the next steps. Write only the summary."
)


def fits_verbatim(items: Sequence[Item]) -> bool:
    """Whether a conversation is so short that it is kept as it is, without running the model."""
    return len(dumps(items)) <= MAX_VERBATIM


def expanded(items: Sequence[Item]) -> list[Item]:
    """Return the items with each earlier compaction replaced: by its items, or by its instructions and its summary."""
    result: list[Item] = []
    for item in items:
        decoded = opaque.decode(item.get("encrypted_content")) if item["type"] == "compaction" else None
        match decoded:
            case {"items": list(kept)}:
                result += kept
            case {"summary": str(summary), "instructions": list(kept)}:
                shortened = opaque.encode({"summary": summary, "instructions": []})
                result += [*kept, {**item, "encrypted_content": shortened}]
            case _:
                result.append(item)
    return result


def summary_request(body: CompactBody, items: Sequence[Item]) -> TranslatedRequest:
    """Return the request that asks the model for the summary of a conversation."""
    asking = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": PROMPT}]}
    # The client's messages are all history here, so parts that the model does not accept are omitted.
    translated = to_prompt(body, [], [*items, asking], frozenset({"text"}))
    limit = body.max_output_tokens or MAX_SUMMARY_TOKENS
    chat = replace(
        translated.chat,
        sampling=body.sampling(),
        max_tokens=limit,
        priority=body.queue_priority(),
        tools=(),
        tool_choice="auto",
        allowed_tools=None,
        output_format=None,
    )
    return replace(translated, chat=chat)


def compaction(payload: dict[str, Any], usage: OutputCompleted) -> dict[str, Any]:
    """Return the object of a compacted conversation."""
    item = {"type": "compaction", "id": new_id("cmp"), "encrypted_content": opaque.encode(payload)}
    return {
        "id": new_id("resp"),
        "object": "response.compaction",
        "created_at": int(time.time()),
        "output": [item],
        "usage": usage_json(usage),
    }


def verbatim(items: Sequence[Item]) -> dict[str, Any]:
    """Return the object of a conversation that is kept as it is."""
    return compaction({"items": list(items)}, OutputCompleted(0, 0, 0))


class SummaryCollector(Collector[ChatEvent]):
    """Collects a summary; if the model writes none, the conversation is kept as it is."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._texts: list[str] = []
        self._usage = OutputCompleted(0, 0, 0)

    def add(self, events: Sequence[ChatEvent]) -> None:
        for event in events:
            match event:
                case ChoiceDelta(parts=parts):
                    self._texts += [part.text for part in parts if isinstance(part, Content)]
                case OutputCompleted():
                    self._usage = event

    async def response(self) -> Response:
        summary = "".join(self._texts).strip()
        instructions = [item for item in self._items if item.get("role") in ("system", "developer")]
        payload = {"summary": summary, "instructions": instructions} if summary else {"items": list(self._items)}
        return JsonResponse(compaction(payload, self._usage))

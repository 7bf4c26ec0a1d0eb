"""truncation "auto": a conversation that is too long for the model loses its oldest turns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from mlx_host._host.output_processor import AnswerEvent
from mlx_host.api import json_io
from mlx_host.errors import ContextLengthExceeded
from mlx_host.requests import ChatRequest, Json

Batches = AsyncGenerator[list[AnswerEvent], None]


async def truncated(chat: Callable[[ChatRequest], Batches], request: ChatRequest) -> Batches:
    """Answer a request, or as much of its end as the model takes; only the model knows how much that is."""
    while True:
        try:
            async with aclosing(chat(request)) as batches:
                async for batch in batches:
                    yield batch
            return
        except ContextLengthExceeded as error:
            # It is a refusal, so nothing has been said.
            shorter = without_oldest(request.messages, 1 - error.limit / error.prompt_tokens)
            if shorter is None:
                raise
            request = replace(request, messages=shorter)


def without_oldest(messages: Sequence[Json], share: float) -> Sequence[Json] | None:
    """Leave out turns for about a `share` of the text, one at least; None where only one is left.

    A turn is what a user says and all that follows from it. What stands before the first turn, the instructions, stays.
    """
    first = next((at for at, message in enumerate(messages) if message["role"] != "system"), 0)
    ends = [at for at, message in enumerate(messages) if at > first and message["role"] == "user"]
    sizes = [len(json_io.dumps(message)) for message in messages]
    enough = share * sum(sizes)
    for end in ends:
        if sum(sizes[first:end]) >= enough:
            break
    return [*messages[:first], *messages[end:]] if ends else None

"""`truncation: "auto"`: drops the oldest turns of a conversation that exceeds the model's context length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mlx_host.api import ChatEvent, Reply
from mlx_host.api.http import RetryingReply, dumps
from mlx_host.errors import ContextLengthExceededError, RequestError
from mlx_host.requests import ChatRequest, Json


def truncated(
    chat: Callable[[ChatRequest], Reply[ChatEvent]],
    request: ChatRequest,
    keep: Callable[[Sequence[Json]], None] = lambda messages: None,
) -> Reply[ChatEvent]:
    """Submit a request; while the model rejects it as too long, resubmit it without its oldest turns.

    Only the model can count the tokens. The original request is resubmitted, because `chat` prepares it again. `keep`
    is called with the remaining messages.
    """

    def retry(error: RequestError) -> Reply[ChatEvent] | None:
        nonlocal request
        if not isinstance(error, ContextLengthExceededError):
            return None
        messages = without_oldest(request.messages, 1 - error.limit / error.prompt_tokens)
        if messages is None:
            return None
        keep(messages)
        request = replace(request, messages=messages)
        return chat(request)

    return RetryingReply(chat(request), retry)


def _json_length(message: Json) -> int:
    return len(dumps(message))


def without_oldest(
    messages: Sequence[Json], fraction: float, size: Callable[[Json], int] = _json_length
) -> Sequence[Json] | None:
    """Remove the oldest turns: at least one, and about this fraction of the text; None if there is only one turn.

    A turn is a user message and all that follows it. Messages before the first turn, the instructions, remain.
    """
    first = next((at for at, message in enumerate(messages) if message["role"] != "system"), 0)
    sizes = [size(message) for message in messages]
    enough = fraction * sum(sizes)
    removed = 0
    end = None
    for at in range(first, len(messages)):
        if at > first and messages[at]["role"] == "user":
            end = at
            if removed >= enough:
                break
        removed += sizes[at]
    return None if end is None else [*messages[:first], *messages[end:]]

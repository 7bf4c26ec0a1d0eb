"""How long a conversation is, as the dialects that count tokens tell it."""

from __future__ import annotations

from mlx_host._host import Host
from mlx_host.events import Tokenized
from mlx_host.requests import ChatRequest, TokenizeRequest


async def count_prompt_tokens(host: Host, request: ChatRequest) -> int:
    """Count the tokens that the model would read, as `usage` would tell them."""
    count = 0
    async with host.tokenize(TokenizeRequest(id=request.id, model=request.model, prompt=request)) as exchange:
        async for events in exchange:
            count += sum(len(event.tokens) for event in events if isinstance(event, Tokenized))
    return count

"""Limits of a text model, and the checks against them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mlx_host.errors import ContextLengthExceededError, InvalidRequestError
from mlx_host.requests import ChatRequest, GenerationRequest


@dataclass(frozen=True)
class TextLimits:
    """The limits of a model: `concurrency` for running requests, and `max_n` for choices per request.

    `context_length` is the maximum number of tokens of prompt and output together, so a prompt that fills it is
    rejected unless no output is requested. None means no limit.
    """

    concurrency: int
    context_length: int | None
    max_n: int | None = None

    def check_n(self, request: GenerationRequest) -> None:
        if self.max_n is not None and request.n > self.max_n:
            raise InvalidRequestError(
                f"n: {request.n} exceeds the maximum of this model ({self.max_n}); send several requests instead.",
                param="n",
            )

    def check_length(self, request: GenerationRequest, prompt_tokens: int, *, at_least: bool = False) -> None:
        """Raise ContextLengthExceededError for a prompt that is too long.

        With `at_least`, `prompt_tokens` is a lower bound.
        """
        # Clients shorten a prompt that is rejected, but not one that has an empty output.
        needed = prompt_tokens + (request.max_tokens != 0)
        if self.context_length is not None and needed > self.context_length:
            param = "messages" if isinstance(request, ChatRequest) else "prompt"
            raise ContextLengthExceededError(self.context_length, prompt_tokens, param=param, at_least=at_least)

    def max_new_tokens(self, request: GenerationRequest, prompt_tokens: int, default: int | None) -> int:
        """Return the maximum number of tokens to generate: that of the request, or `default`, within the context."""
        self.check_length(request, prompt_tokens)
        limit = sys.maxsize if self.context_length is None else self.context_length
        wanted = default if request.max_tokens is None else request.max_tokens
        return limit - prompt_tokens if wanted is None else min(wanted, limit - prompt_tokens)

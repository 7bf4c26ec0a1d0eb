"""Objects that several of OpenAI's APIs share: usage and log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from mlx_host.api.chat_events import OutputCompleted
from mlx_host.events import Logprobs, TokenLogprob

# OpenAI's value for tokens with a probability of practically zero; JSON has no infinity.
MIN_LOGPROB = -9999.0


class TokenCounts(Protocol):
    """The token counts of a reply."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...


def usage_json(usage: OutputCompleted) -> dict[str, Any]:
    """Return OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def usage_so_far(reply: TokenCounts) -> dict[str, Any]:
    """Return the usage object of an unfinished reply; its number of reasoning tokens is not known yet."""
    usage = usage_json(OutputCompleted(reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens))
    del usage["completion_tokens_details"]
    return usage


def finite(logprob: float) -> float:
    """Return a log-probability that JSON can represent: neither infinity nor NaN."""
    return MIN_LOGPROB if math.isnan(logprob) else max(logprob, MIN_LOGPROB)


def logprobs_json(logprobs: Sequence[Logprobs]) -> dict[str, Any]:
    """Return the logprobs object of a chat completion's choice."""

    def token(entry: TokenLogprob) -> dict[str, Any]:
        return {"token": entry.token, "logprob": finite(entry.logprob), "bytes": list(entry.bytes)}

    content = [{**token(each.chosen), "top_logprobs": [token(top) for top in each.top]} for each in logprobs]
    return {"content": content, "refusal": None}

"""Log-probabilities as the API reports them."""

from __future__ import annotations

import math
from collections.abc import Callable

import mlx.core as mx
from mlx_host.events import TokenLogprob

from mlx_host_text.sampling import Array


def token_logprob(token: int, logprob: float, token_bytes: Callable[[int], bytes]) -> TokenLogprob:
    raw = token_bytes(token)
    return TokenLogprob(raw.decode("utf-8", "replace"), logprob, raw)


def top_logprobs(logprobs: Array, count: int, token_bytes: Callable[[int], bytes]) -> list[list[TokenLogprob]]:
    """The most likely tokens of each row of `logprobs` (rows, vocabulary), best first; ties are ordered by token id.

    Impossible tokens are omitted.
    """
    if count == 0:
        return [[] for _ in range(logprobs.shape[0])]
    count = min(count, logprobs.shape[-1])
    indices: Array = mx.argpartition(-logprobs, kth=count - 1, axis=-1)[:, :count]
    values: Array = mx.take_along_axis(logprobs, indices, axis=-1)
    rows = zip(indices.tolist(), values.tolist(), strict=True)
    pairs = [sorted(zip(*row, strict=True), key=lambda pair: (-pair[1], pair[0])) for row in rows]
    return [
        [token_logprob(token, logprob, token_bytes) for token, logprob in row if logprob > -math.inf] for row in pairs
    ]

"""Pooling of token vectors to one vector per input, as in sentence-transformers; everything in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import mlx.core as mx
import numpy as np

Array: TypeAlias = mx.array

EPSILON = 1e-9


def pool(states: Array, mask: Array, modes: Sequence[str]) -> Array:
    """Pool `states` (inputs, tokens, size) where `mask` (inputs, tokens) is true; several modes are concatenated."""
    # Hidden states of padding are undefined and may be NaN.
    states = mx.where(mask[:, :, None], states.astype(mx.float32), 0.0)
    pooled = [MODES[mode](states, mask) for mode in modes]
    return pooled[0] if len(pooled) == 1 else mx.concatenate(pooled, axis=-1)


def normalize(vectors: Array) -> Array:
    """Scale vectors (inputs, size) to length 1."""
    norms = mx.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / mx.maximum(norms, EPSILON)


def to_bytes(vectors: Array) -> list[bytes | None]:
    """Evaluate vectors (inputs, size) to little-endian float32 bytes; None for vectors that are not finite."""
    computed = np.array(vectors, np.float32)
    return [vector.tobytes() if np.isfinite(vector).all() else None for vector in computed]


def _first(states: Array, mask: Array) -> Array:
    return _at(states, mx.argmax(mask, axis=1))


def _last(states: Array, mask: Array) -> Array:
    return _at(states, mask.shape[1] - 1 - mx.argmax(mask[:, ::-1], axis=1))


def _at(states: Array, positions: Array) -> Array:
    return mx.take_along_axis(states, positions[:, None, None], axis=1).squeeze(1)


def _max(states: Array, mask: Array) -> Array:
    return mx.where(mask[:, :, None], states, -mx.inf).max(axis=1)


def _mean(states: Array, mask: Array) -> Array:
    return states.sum(axis=1) / mask.sum(axis=1, keepdims=True)


def _mean_sqrt(states: Array, mask: Array) -> Array:
    return states.sum(axis=1) / mx.sqrt(mask.sum(axis=1, keepdims=True).astype(mx.float32))


def _weighted(states: Array, mask: Array) -> Array:
    """Weights grow with the position: 1, 2, 3, …"""
    weights = mx.where(mask, mx.arange(1, mask.shape[1] + 1)[None, :], 0)
    return (states * weights[:, :, None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)


MODES: Mapping[str, Callable[[Array, Array], Array]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted,
    "lasttoken": _last,
}

"""Sequences, the batch that generates them, and operations on their caches: what a model library implements.

A backend implements `SequenceBatch` and `CacheOps` for its library in one `*_api.py`; the rest is in this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mlx_host_text.sampling import Array, LogitsProcessor, Sampler

KVCache = list[Any]
"""The library's cache objects for one sequence, one per layer; some layers hold recurrent state instead of keys."""


@dataclass(frozen=True)
class CacheSnapshot:
    """The cache of a token sequence."""

    tokens: list[int]
    cache: KVCache


class CacheOps(Protocol):
    """Operations on one library's caches."""

    def new(self) -> KVCache:
        """Create the cache of an empty sequence."""

    def can_trim(self, cache: KVCache) -> bool:
        """Whether tokens can be dropped from the end at any length; sliding windows and recurrent states cannot."""

    def trim(self, cache: KVCache, tokens: int) -> KVCache:
        """Copy a trimmable cache without its last `tokens` tokens; arrays are shared until they are written to."""

    def nbytes(self, cache: KVCache) -> int: ...


class Guide(Protocol):
    """Masks the logits of one sequence, as its last logits processor."""

    def process(self, token: int | None, logits: Array) -> Array:
        """Mask the logits of the next token, of shape (1, vocabulary).

        `token` is the last token of the output, None at its start.
        """


@dataclass(frozen=True)
class SequenceState:
    """A sequence to generate.

    `segments` are the prompt tokens that follow the ones in `cached`; prefill pauses after each segment and before the
    last token, so that the cache can be copied there. `guide` constrains the output. `inputs` are the library's
    inputs for the prompt where its tokens alone do not describe it (images, audio); the tokens are then cache keys.
    """

    segments: list[list[int]]
    cached: CacheSnapshot | None
    max_tokens: int
    sampler: Sampler
    processors: list[LogitsProcessor]
    guide: Guide | None = None
    inputs: Any = None


@dataclass(frozen=True, slots=True)
class PrefillOutput:
    """A sequence has processed the first `done` tokens of its segments."""

    sequence_id: int
    done: int


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """A generated token and the log-probabilities (vocabulary,) it was drawn from.

    The last token of a sequence has a reason, and a snapshot if the library provides one.
    """

    sequence_id: int
    token: int
    logprobs: Array
    reason: Literal["stop", "length"] | None
    snapshot: CacheSnapshot | None


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one step of a batch produced."""

    prefills: Sequence[PrefillOutput]
    tokens: Sequence[TokenOutput]


class SequenceBatch(Protocol):
    """A batch of sequences, which join and leave between any two steps."""

    def add(self, sequence: SequenceState) -> int:
        """Add a sequence and return its id."""

    def remove(self, sequence_ids: Iterable[int]) -> None: ...

    def step(self) -> StepOutput:
        """Decode one token of every prefilled sequence, and prefill the next chunk of the others."""

    def snapshot(self, sequence_id: int) -> CacheSnapshot:
        """Copy the cache of a sequence whose prefill has paused."""

    def materialize(self, snapshot: CacheSnapshot) -> None:
        """Evaluate a snapshot's arrays, so that they do not keep the batch's own arrays in memory."""

    @property
    def nbytes(self) -> int:
        """Bytes of the caches and inputs of all sequences."""

    def close(self) -> None: ...

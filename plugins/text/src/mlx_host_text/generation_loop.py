"""The generation loop: one batch for all open requests, stepped together, and the prefix cache."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from mlx_host.errors import EngineError

from mlx_host_text.prefix_cache import PrefixCache
from mlx_host_text.sampling import greedy
from mlx_host_text.sequence import CacheSnapshot, PrefillOutput, SequenceBatch, SequenceState, TokenOutput

log = logging.getLogger(__name__)


class BatchClient(Protocol):
    """A request with sequences in the batch; it queues what it receives and processes it in its next turn."""

    def on_prefill(self, output: PrefillOutput) -> None: ...

    def on_token(self, output: TokenOutput) -> None: ...

    def on_failure(self, error: EngineError) -> None: ...


class GenerationLoop:
    """The batch, the request that each sequence belongs to, and the prefix cache; `steps` counts the steps taken.

    If a step fails, all requests in the batch fail and the next request gets a new batch. `budget` is the number of
    bytes for running sequences and prefix cache together; 0 disables the prefix cache.
    """

    def __init__(self, new_batch: Callable[[], SequenceBatch], cache: PrefixCache, budget: int) -> None:
        self.steps = 0
        self._new_batch = new_batch
        self._batch: SequenceBatch | None = None
        self._clients: dict[int, BatchClient] = {}
        self._cache = cache
        self._budget = budget

    @property
    def running(self) -> bool:
        """Whether there are sequences to step."""
        return bool(self._clients)

    @property
    def caches(self) -> bool:
        """Whether the prefix cache is enabled."""
        return self._budget > 0

    def warm_up(self) -> None:
        """Generate one token, so that kernels are compiled before the first request."""
        batch = self._new_batch()
        batch.add(SequenceState(segments=[[0, 0]], cached=None, max_tokens=1, sampler=greedy, processors=[]))
        while not batch.step().tokens:
            pass
        batch.close()

    def add(self, sequence: SequenceState, client: BatchClient) -> int:
        if self._batch is None:
            self._batch = self._new_batch()
        sequence_id = self._batch.add(sequence)
        self._clients[sequence_id] = client
        self._evict(self._batch)
        return sequence_id

    def remove(self, client: BatchClient) -> None:
        """Remove the sequences that this request still has in the batch."""
        sequence_ids = [sequence_id for sequence_id, owner in self._clients.items() if owner is client]
        for sequence_id in sequence_ids:
            del self._clients[sequence_id]
        if self._batch is not None and sequence_ids:
            self._batch.remove(sequence_ids)

    def remove_sequence(self, sequence_id: int) -> None:
        """Remove one sequence, whose request has ended it."""
        # A sequence that the batch itself has ended is not in it any more.
        if self._batch is not None and self._clients.pop(sequence_id, None) is not None:
            self._batch.remove([sequence_id])

    def step(self) -> None:
        """Advance every sequence and deliver the output to its request."""
        if self._batch is None:
            return
        self.steps += 1
        try:
            output = self._batch.step()
            for prefill in output.prefills:
                self._clients[prefill.sequence_id].on_prefill(prefill)
            for token in output.tokens:
                client = self._clients[token.sequence_id]
                if token.reason is not None:
                    del self._clients[token.sequence_id]
                client.on_token(token)
        except Exception as error:  # noqa: BLE001  any failure loses the state of all sequences
            self._fail(error)

    def longest_cached_prefix(self, key: Sequence[int]) -> CacheSnapshot | None:
        return self._cache.longest_prefix(key) if self._budget else None

    def snapshot(self, sequence_id: int) -> CacheSnapshot:
        assert self._batch is not None
        return self._batch.snapshot(sequence_id)

    def store(self, snapshot: CacheSnapshot) -> None:
        """Put a sequence into the prefix cache, if the running sequences leave enough of the budget."""
        if self._budget and self._batch is not None:
            self._batch.materialize(snapshot)
            self._cache.put(snapshot)
            self._evict(self._batch)

    def close(self) -> None:
        self._clients.clear()
        self._cache.clear()
        if self._batch is not None:
            self._batch.close()
            self._batch = None

    def _evict(self, batch: SequenceBatch) -> None:
        self._cache.shrink(self._budget - batch.nbytes)

    def _fail(self, cause: Exception) -> None:
        log.error("the batch failed with %d sequences", len(self._clients), exc_info=cause)
        clients = set(self._clients.values())
        # Cached arrays may depend on the failed computation, and memory may be what was missing.
        self.close()
        for client in clients:
            client.on_failure(EngineError(f"The model failed during generation: {type(cause).__name__}: {cause}"))

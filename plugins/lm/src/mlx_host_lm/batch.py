"""The running batch: rows of all open requests, stepped together and reported to the request that each belongs to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from mlx_host.errors import EngineError

from mlx_host_lm.mlx_lm_api import Read, Row, Sampled, Snapshot
from mlx_host_lm.prompt_cache import PromptCache
from mlx_host_lm.sampling import greedy

log = logging.getLogger(__name__)


class Owner(Protocol):
    """A request with rows in the batch; it is told of every step and does its own work later, in its own turn."""

    def on_read(self, read: Read) -> None: ...

    def on_sampled(self, sampled: Sampled) -> None: ...

    def on_failure(self, error: EngineError) -> None: ...


class Rows(Protocol):
    """A generator of many sequences at once, which join and leave at any step."""

    def add(self, row: Row) -> int: ...

    def remove(self, uids: Iterable[int]) -> None: ...

    def step(self) -> tuple[list[Read], list[Sampled]]:
        """Decode one token of every row that has read its prompt, and read a piece for those that have not.

        A piece ends where a segment does, and before a row's last token.
        """

    def snapshot(self, uid: int) -> Snapshot: ...

    def materialise(self, snapshot: Snapshot) -> None:
        """Compute a snapshot's own arrays, so that it does not keep the batch it was cut from in memory."""

    @property
    def nbytes(self) -> int: ...

    def close(self) -> None: ...


class Batch:
    """Rows and whose they are; `steps` counts the steps taken.

    When they fail, every request in the batch fails with it and the next one gets a new batch. `budget` is in bytes,
    for the running rows and the prompt cache together; 0 turns the prompt cache off.
    """

    def __init__(self, open_rows: Callable[[], Rows], cache: PromptCache, budget: int) -> None:
        self.steps = 0
        self._open_rows = open_rows
        self._rows: Rows | None = None
        self._owners: dict[int, Owner] = {}
        self._cache = cache
        self._budget = budget

    @property
    def running(self) -> bool:
        """Whether there are rows to step."""
        return bool(self._owners)

    def warm_up(self) -> None:
        """Generate a token from two, so that kernels are compiled before somebody waits for them."""
        rows = self._open_rows()
        rows.add(Row(segments=[[0, 0]], cached=None, max_tokens=1, sampler=greedy, processors=[]))
        sampled: list[Sampled] = []
        while not sampled:
            _, sampled = rows.step()
        rows.close()

    def add(self, row: Row, owner: Owner) -> int:
        if self._rows is None:
            self._rows = self._open_rows()
        uid = self._rows.add(row)
        self._owners[uid] = owner
        self._make_room(self._rows)
        return uid

    def remove(self, owner: Owner) -> None:
        """Drop the rows that this request still has."""
        uids = [uid for uid, whose in self._owners.items() if whose is owner]
        for uid in uids:
            del self._owners[uid]
        if self._rows is not None and uids:
            self._rows.remove(uids)

    def step(self) -> None:
        """Advance every row; owners are told, and the one that asked finds its news as the others do."""
        if self._rows is None:
            return
        self.steps += 1
        try:
            reads, tokens = self._rows.step()
            for read in reads:
                self._owners[read.uid].on_read(read)
            for sampled in tokens:
                owner = self._owners[sampled.uid]
                if sampled.reason is not None:
                    del self._owners[sampled.uid]
                owner.on_sampled(sampled)
        except Exception as error:  # noqa: BLE001  whatever went wrong, the state of all rows is lost
            self._fail(error)

    def longest_cached_prefix(self, tokens: list[int]) -> Snapshot | None:
        return self._cache.longest_prefix(tokens) if self._budget else None

    def snapshot(self, uid: int) -> Snapshot:
        assert self._rows is not None
        return self._rows.snapshot(uid)

    def keep(self, snapshot: Snapshot) -> None:
        """Put a sequence into the prompt cache, as far as the running rows leave room."""
        if self._budget and self._rows is not None:
            self._rows.materialise(snapshot)
            self._cache.put(snapshot)
            self._make_room(self._rows)

    def close(self) -> None:
        self._owners.clear()
        self._cache.clear()
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def _make_room(self, rows: Rows) -> None:
        self._cache.shrink(self._budget - rows.nbytes)

    def _fail(self, cause: Exception) -> None:
        log.error("the batch failed with %d rows in it", len(self._owners), exc_info=cause)
        owners = set(self._owners.values())
        # Cached arrays may wait for what failed, and memory may be what was missing.
        self.close()
        for owner in owners:
            owner.on_failure(EngineError(f"the model failed while it generated: {type(cause).__name__}: {cause}"))

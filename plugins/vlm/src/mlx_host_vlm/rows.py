"""Schedules mlx-vlm's batches: prompts are read one by one in pieces, between the steps of the rows that decode."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import count

import mlx.core as mx
from mlx_host_lm.mlx_lm_api import Layers, Read, Row, Sampled, Snapshot, nbytes
from mlx_host_lm.sampling import Array

from mlx_host_vlm.mlx_vlm_api import Decoding, Inputs, Loaded, Reading, Sequences, materialise


class VisionRow:
    """A sequence: `key` are its tokens as the prompt cache knows them, of which the first `done` are in its caches."""

    def __init__(self, uid: int, row: Row, loaded: Loaded) -> None:
        self.uid = uid
        self.row = row
        self.start = 0 if row.cached is None else len(row.cached.tokens)
        self.done = self.start
        unread = [token for segment in row.segments for token in segment]
        self.key = [*(row.cached.tokens if row.cached is not None else []), *unread]
        # Where it stops: between segments and before the last token.
        self._stops = {self.start + len(row.segments[0]), len(self.key) - 1}
        self._loaded = loaded
        self._inputs: Inputs | None = row.inputs
        self._reading: Reading | None = None
        self.layers: Layers = []
        self.generated = 0
        self.next_logprobs: Array = None

    @property
    def at_end(self) -> bool:
        """Whether the last piece is next, after which it decodes."""
        return self._loaded.whole or self.done == len(self.key) - 1

    def read(self, budget: int) -> int:
        """Read up to `budget` tokens, more if they cannot be read in pieces; return how many."""
        until = min(stop for stop in self._stops if stop > self.done)
        divisible = self._inputs is None or self._inputs.divisible
        if divisible:
            until = min(until, self.done + budget)
        tokens = until - self.done
        self._reading = self._reading or self._begin()
        self._reading.read(tokens)
        self.layers = self._reading.layers
        self.done = until
        if not divisible:
            # What comes after the pictures is read without them.
            self._reading = None
        return tokens

    def finish(self) -> Sequences:
        """Read what is left and sample the first token."""
        sequences = (self._reading or self._begin()).finish(self._sample)
        # The batch that this joins has caches of its own, and the prompt is not read again.
        self.layers, self._inputs, self._reading = [], None, None
        return sequences

    def snapshot(self) -> Snapshot:
        return Snapshot(self.key[: self.done], copy.deepcopy(self.layers))

    def _begin(self) -> Reading:
        if self._inputs is None:
            self._inputs = self._loaded.embed_text(self.key)
        if not self.layers:
            cached = self.row.cached
            self.layers = self._loaded.fresh_cache() if cached is None else copy.deepcopy(cached.layers)
        language_model = self._loaded.language_model
        return Reading(language_model, self.uid, self._inputs, self.layers, self.done, self.row)

    def _sample(self, logprobs: Array) -> Array:
        self.next_logprobs = logprobs[0]
        return self.row.sampler(logprobs)


class VisionRows:
    """Rows of text and of media, which join and leave at any step."""

    def __init__(self, loaded: Loaded, *, prefill_step_size: int) -> None:
        self._loaded = loaded
        self._prefill_step_size = prefill_step_size
        self._uids = count()
        self._unread: dict[int, VisionRow] = {}
        self._running: dict[int, VisionRow] = {}
        self._decoding = Decoding(loaded.language_model, self._sample)

    def add(self, row: Row) -> int:
        uid = next(self._uids)
        self._unread[uid] = VisionRow(uid, row, self._loaded)
        return uid

    def remove(self, uids: Iterable[int]) -> None:
        gone = list(uids)
        for uid in gone:
            self._unread.pop(uid, None)
            self._running.pop(uid, None)
        self._decoding.drop(gone)

    def step(self) -> tuple[list[Read], list[Sampled]]:
        sampled = self._decode() if self._running else []
        return self._read(), sampled

    def snapshot(self, uid: int) -> Snapshot:
        return self._unread[uid].snapshot()

    def materialise(self, snapshot: Snapshot) -> None:
        materialise(snapshot.layers)

    @property
    def nbytes(self) -> int:
        rows = [*self._unread.values(), *self._running.values()]
        # Several answers share what they read, and their request holds it to the end.
        inputs: dict[int, int] = {
            id(row.row.inputs): row.row.inputs.nbytes for row in rows if row.row.inputs is not None
        }
        layers = sum(nbytes(row.layers) for row in self._unread.values())
        return self._decoding.nbytes + layers + sum(inputs.values()) + self._loaded.seen.nbytes

    def close(self) -> None:
        # Whatever the arrays hold or wait for, nothing is computed any more.
        self._unread.clear()
        self._running.clear()
        self._decoding = Decoding(self._loaded.language_model, self._sample)

    def _read(self) -> list[Read]:
        """Read pieces of prompts, oldest first, one of each, as long as they are short."""
        reads = []
        budget = self._prefill_step_size
        for row in list(self._unread.values()):
            if row.at_end:
                budget -= len(row.key) - row.done
                self._decoding.join(row.finish())
                self._running[row.uid] = self._unread.pop(row.uid)
            else:
                budget -= row.read(budget)
                reads.append(Read(row.uid, row.done - row.start))
            if budget <= 0:
                break
        return reads

    def _decode(self) -> list[Sampled]:
        rows = [self._running[uid] for uid in self._decoding.uids]
        logprobs = [row.next_logprobs for row in rows]
        sampled = [self._advance(*each) for each in zip(rows, self._decoding.step(), logprobs, strict=True)]
        ended = [each.uid for each in sampled if each.reason is not None]
        self._decoding.drop(ended)
        for uid in ended:
            del self._running[uid]
        return sampled

    def _advance(self, row: VisionRow, token: int, logprobs: Array) -> Sampled:
        row.generated += 1
        row.key.append(token)
        if token in self._loaded.tokenizer.eos_ids:
            snapshot = Snapshot(row.key, self._decoding.layers(row.uid))
            return Sampled(row.uid, token, logprobs, "stop", snapshot)
        if row.generated >= row.row.max_tokens:
            snapshot = Snapshot(row.key, self._decoding.layers(row.uid))
            return Sampled(row.uid, token, logprobs, "length", snapshot)
        return Sampled(row.uid, token, logprobs, None, None)

    def _sample(self, logprobs: Array) -> Array:
        """Sample each row with its own sampler; rows that share one are sampled in one call."""
        rows = [self._running[uid] for uid in self._decoding.uids]
        groups: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            row.next_logprobs = logprobs[index]
            groups.setdefault(id(row.row.sampler), []).append(index)
        if len(groups) == 1:
            return rows[0].row.sampler(logprobs)
        drawn = [rows[group[0]].row.sampler(logprobs[mx.array(group)]) for group in groups.values()]
        order = [index for group in groups.values() for index in group]
        return mx.concatenate(drawn)[mx.argsort(mx.array(order))]

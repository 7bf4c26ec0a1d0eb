"""A SequenceBatch on mlx-vlm: schedules prefill of single prompts between decoding steps of the others.

| state   | cache of the sequence       | next                                                               |
| ------- | --------------------------- | ------------------------------------------------------------------ |
| waiting | the cached prefix, if any   | oldest in a step with budget left → prefill                        |
| prefill | its own, snapshots possible | chunk → prefill; end of a segment → pause; one token left → decode |
| decode  | the DecodeBatch's           | token → decode; EOS or `max_tokens` → removed, with a snapshot     |

Indivisible prompts (tokens of an image attend to each other) take one chunk up to the end of the segment, whatever the
budget; prompts of networks that prefill whole prompts only go from waiting to decode.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import accumulate, count

import mlx.core as mx
from mlx_host_text.sampling import Array
from mlx_host_text.sequence import CacheSnapshot, KVCache, PrefillOutput, SequenceState, StepOutput, TokenOutput

from mlx_host_vlm.mlx_vlm_api import DecodeBatch, GenerationRows, LoadedModel, MediaInputs, Prefill, materialize


class ScheduledSequence:
    """A sequence in the batch.

    `key` is its key in the prefix cache, one number per token; its own cache contains the first `done` of them.
    """

    def __init__(self, sequence_id: int, sequence: SequenceState, loaded: LoadedModel) -> None:
        self.sequence_id = sequence_id
        self.sequence = sequence
        cached = [] if sequence.cached is None else sequence.cached.tokens
        self.start = len(cached)
        self.done = self.start
        self.key = [*cached, *(token for segment in sequence.segments for token in segment)]
        self.cache: KVCache = []
        self.generated = 0
        self.next_logprobs: Array = None
        # Prefill pauses at the end of each segment and before the last token.
        ends = accumulate((len(segment) for segment in sequence.segments), initial=self.start)
        self._pauses = {*ends, len(self.key) - 1}
        self._loaded = loaded
        self._inputs: MediaInputs | None = sequence.inputs
        self._prefill: Prefill | None = None

    @property
    def ready_to_decode(self) -> bool:
        """Whether the rest of the prompt is the last chunk, from which the first token is sampled."""
        return self._loaded.prefills_whole or self.done == len(self.key) - 1

    def prefill(self, budget: int) -> int:
        """Process up to `budget` tokens, more if they are indivisible; return how many."""
        until = min(pause for pause in self._pauses if pause > self.done)
        divisible = self._inputs is None or self._inputs.divisible
        if divisible:
            until = min(until, self.done + budget)
        tokens = until - self.done
        self._prefill = self._prefill or self._begin()
        self._prefill.advance(tokens)
        self.cache = self._prefill.cache
        self.done = until
        if not divisible:
            # The tokens after the images are processed without them.
            self._prefill = None
        return tokens

    def finish_prefill(self) -> GenerationRows:
        """Process the rest of the prompt and sample the first token."""
        rows = (self._prefill or self._begin()).finish(self._sample)
        # The decode batch has its own caches, and the prompt is not processed again.
        self.cache, self._inputs, self._prefill = [], None, None
        return rows

    def snapshot(self) -> CacheSnapshot:
        return CacheSnapshot(self.key[: self.done], copy.deepcopy(self.cache))

    def _begin(self) -> Prefill:
        if self._inputs is None:
            self._inputs = self._loaded.embed_text(self.key)
        if not self.cache:
            cached = self.sequence.cached
            self.cache = self._loaded.caches.new() if cached is None else copy.deepcopy(cached.cache)
        language_model = self._loaded.language_model
        return Prefill(language_model, self.sequence_id, self._inputs, self.cache, self.done, self.sequence)

    def _sample(self, logprobs: Array) -> Array:
        self.next_logprobs = logprobs[0]
        return self.sequence.sampler(logprobs)


class BatchScheduler:
    """Sequences with and without media; a step prefills at most `prefill_step_size` tokens in total."""

    def __init__(self, loaded: LoadedModel, *, prefill_step_size: int) -> None:
        self._loaded = loaded
        self._prefill_step_size = prefill_step_size
        self._ids = count()
        self._waiting: dict[int, ScheduledSequence] = {}
        self._running: dict[int, ScheduledSequence] = {}
        self._decoding = DecodeBatch(loaded.language_model, self._sample)

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    def add(self, sequence: SequenceState) -> int:
        sequence_id = next(self._ids)
        self._waiting[sequence_id] = ScheduledSequence(sequence_id, sequence, self._loaded)
        return sequence_id

    def remove(self, sequence_ids: Iterable[int]) -> None:
        removed = list(sequence_ids)
        for sequence_id in removed:
            self._waiting.pop(sequence_id, None)
            self._running.pop(sequence_id, None)
        self._decoding.remove(removed)

    def step(self) -> StepOutput:
        tokens = self._decode() if self._running else []
        return StepOutput(self._prefill(), tokens)

    def snapshot(self, sequence_id: int) -> CacheSnapshot:
        return self._waiting[sequence_id].snapshot()

    def materialize(self, snapshot: CacheSnapshot) -> None:
        materialize(snapshot.cache)

    @property
    def nbytes(self) -> int:
        sequences = [*self._waiting.values(), *self._running.values()]
        # The choices of a request share their inputs, which the request holds until it ends.
        inputs: dict[int, int] = {
            id(each.sequence.inputs): each.sequence.inputs.nbytes
            for each in sequences
            if each.sequence.inputs is not None
        }
        caches = sum(self._loaded.caches.nbytes(each.cache) for each in self._waiting.values())
        return self._decoding.nbytes + caches + sum(inputs.values()) + self._loaded.feature_cache.nbytes

    def close(self) -> None:
        # Drops all arrays; nothing that they depend on is computed any more.
        self._waiting.clear()
        self._running.clear()
        self._decoding = DecodeBatch(self._loaded.language_model, self._sample)

    def _prefill(self) -> list[PrefillOutput]:
        """Prefill one chunk of each waiting prompt, oldest first, until the budget is used up."""
        outputs = []
        budget = self._prefill_step_size
        for each in list(self._waiting.values()):
            if each.ready_to_decode:
                budget -= len(each.key) - each.done
                self._decoding.join(each.finish_prefill())
                self._running[each.sequence_id] = self._waiting.pop(each.sequence_id)
            else:
                budget -= each.prefill(budget)
                outputs.append(PrefillOutput(each.sequence_id, each.done - each.start))
            if budget <= 0:
                break
        return outputs

    def _decode(self) -> list[TokenOutput]:
        sequences = [self._running[sequence_id] for sequence_id in self._decoding.sequence_ids]
        logprobs = [each.next_logprobs for each in sequences]
        outputs = [self._advance(*each) for each in zip(sequences, self._decoding.step(), logprobs, strict=True)]
        finished = [output.sequence_id for output in outputs if output.reason is not None]
        self._decoding.remove(finished)
        for sequence_id in finished:
            del self._running[sequence_id]
        return outputs

    def _advance(self, scheduled: ScheduledSequence, token: int, logprobs: Array) -> TokenOutput:
        scheduled.generated += 1
        scheduled.key.append(token)
        sequence_id = scheduled.sequence_id
        if token in self._loaded.tokenizer.eos_ids:
            return TokenOutput(sequence_id, token, logprobs, "stop", self._final_snapshot(scheduled))
        if scheduled.generated >= scheduled.sequence.max_tokens:
            return TokenOutput(sequence_id, token, logprobs, "length", self._final_snapshot(scheduled))
        return TokenOutput(sequence_id, token, logprobs, None, None)

    def _final_snapshot(self, scheduled: ScheduledSequence) -> CacheSnapshot:
        return CacheSnapshot(scheduled.key, self._decoding.cache(scheduled.sequence_id))

    def _sample(self, logprobs: Array) -> Array:
        """Sample each sequence with its own sampler; sequences that share one are sampled in one call."""
        sequences = [self._running[sequence_id] for sequence_id in self._decoding.sequence_ids]
        groups: dict[int, list[int]] = {}
        for index, each in enumerate(sequences):
            each.next_logprobs = logprobs[index]
            groups.setdefault(id(each.sequence.sampler), []).append(index)
        if len(groups) == 1:
            return sequences[0].sequence.sampler(logprobs)
        sampled = [sequences[group[0]].sequence.sampler(logprobs[mx.array(group)]) for group in groups.values()]
        order = [index for group in groups.values() for index in group]
        return mx.concatenate(sampled)[mx.argsort(mx.array(order))]

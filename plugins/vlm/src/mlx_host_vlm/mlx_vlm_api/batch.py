"""mlx-vlm's caches and the two batches below its BatchGenerator: one prompt during prefill, sequences that decode."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx
from mlx_host_text.layer_caches import LayerCaches
from mlx_host_text.sampling import Array, Sampler
from mlx_host_text.sequence import KVCache, SequenceState
from mlx_vlm.generate.ar import GenerationBatch, PromptProcessingBatch
from mlx_vlm.models.cache import CacheList, make_prompt_cache
from mlx_vlm.models.cache import KVCache as LayerCache

from mlx_host_vlm.mlx_vlm_api.arguments import DEEPSTACK_FEATURES, DEEPSTACK_MASK, MediaInputs, slice_from

GenerationRows = Any
"""mlx-vlm's GenerationBatch."""


def cache_ops(language_model: Any) -> LayerCaches:
    """The operations on mlx-vlm's caches."""
    return LayerCaches(lambda: make_prompt_cache(language_model), trimmable=LayerCache, nested=CacheList)


class SequenceProcessor:
    """The logits processors and the guide of one sequence, with the signature that mlx-vlm expects."""

    def __init__(self, sequence: SequenceState, prompt: Sequence[int]) -> None:
        self._sequence = sequence
        self._tokens: Array = mx.array(list(prompt))

    def __call__(self, _: Array, logits: Array) -> Array:
        return self._process(None, logits)

    def process_last_token(self, token: int, logits: Array) -> Array:
        self._tokens = mx.concatenate([self._tokens, mx.array([token])])
        return self._process(token, logits)

    def _process(self, token: int | None, logits: Array) -> Array:
        for process in self._sequence.processors:
            logits = process(self._tokens, logits)
        if self._sequence.guide is None:
            return logits
        # So that the network does not wait for the guide.
        mx.async_eval(logits)  # type: ignore[no-untyped-call]
        return self._sequence.guide.process(token, logits)


class Prefill:
    """A prompt during prefill, from token number `start` on; `cache` holds the tokens before it and is written to."""

    def __init__(
        self,
        language_model: Any,
        sequence_id: int,
        inputs: MediaInputs,
        cache: KVCache,
        start: int,
        sequence: SequenceState,
    ) -> None:
        length = len(inputs.tokens)
        arrays = {key: slice_from(key, value, start, length) for key, value in inputs.arrays.items()}
        if not inputs.divisible and start:
            # The rest of an indivisible prompt contains no images.
            arrays = {key: value for key, value in arrays.items() if key not in (DEEPSTACK_FEATURES, DEEPSTACK_MASK)}
        processed = bool(sequence.processors) or sequence.guide is not None
        self._batch = PromptProcessingBatch(
            model=language_model,
            uids=[sequence_id],
            input_ids=[inputs.tokens[start:]],
            max_tokens=[sys.maxsize],
            inputs_embeds=arrays.pop("inputs_embeds")[:, start:],
            prompt_kwargs=arrays,
            logits_processors=[[SequenceProcessor(sequence, inputs.tokens)]] if processed else None,
            warm_cache=cache,
        )

    def advance(self, tokens: int) -> None:
        """Process `tokens` more tokens; at least one must remain."""
        # Makes one step of mlx-vlm process exactly these tokens.
        self._batch.prefill_step_size = tokens
        self._batch.prompt_step()

    @property
    def cache(self) -> KVCache:
        return list(self._batch.prompt_cache)

    def finish(self, sampler: Sampler) -> GenerationRows:
        """Process the remaining tokens and sample the first token of the output."""
        return self._batch.generate(sampler, _never, compute_logprobs=False)


class DecodeBatch:
    """Sequences that decode together; `sampler` gets the log-probabilities of all, in the order of `sequence_ids`."""

    def __init__(self, language_model: Any, sampler: Sampler) -> None:
        self._batch = GenerationBatch.empty(language_model, sampler, _never, compute_logprobs=False)

    @property
    def sequence_ids(self) -> list[int]:
        return list(self._batch.uids)

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self._batch.prompt_cache)

    def join(self, rows: GenerationRows) -> None:
        self._batch.extend(rows)

    def step(self) -> list[int]:
        """Return the tokens sampled in the previous step, while the next ones are computed."""
        return [response.token for response in self._batch.next()]

    def remove(self, sequence_ids: Iterable[int]) -> None:
        removed = set(sequence_ids)
        keep = [index for index, uid in enumerate(self._batch.uids) if uid not in removed]
        if len(keep) < len(self._batch.uids):
            self._batch.filter(keep)

    def cache(self, sequence_id: int) -> KVCache:
        """A copy of one sequence's cache."""
        index = self._batch.uids.index(sequence_id)
        return [_row(layer, index) for layer in self._batch.prompt_cache]


def materialize(cache: KVCache) -> None:
    mx.async_eval([layer.state for layer in cache])  # type: ignore[no-untyped-call]


def _row(layer: Any, index: int) -> Any:
    # The cache of a sequence that never shared the batch has no rows to extract.
    return layer.extract(index) if hasattr(layer, "extract") else copy.deepcopy(layer)


def _never(token: int) -> bool:
    """Sequences end when they are removed."""
    return False

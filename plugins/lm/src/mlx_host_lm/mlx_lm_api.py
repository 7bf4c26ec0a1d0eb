"""All calls into mlx-lm; tests/plugins/lm/test_mlx_lm_signatures.py pins what is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_host.errors import LoadError, describe_error
from mlx_host_text.embedder import HiddenStates
from mlx_host_text.layer_caches import LayerCaches
from mlx_host_text.sampling import Array, greedy
from mlx_host_text.sequence import CacheSnapshot, Guide, PrefillOutput, SequenceState, StepOutput, TokenOutput
from mlx_host_text.tokenizer import Tokenizer
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import CacheList, make_prompt_cache
from mlx_lm.models.cache import KVCache as LayerCache
from mlx_lm.utils import load as load_network


@dataclass(frozen=True)
class LoadedModel:
    network: Any
    tokenizer: Tokenizer
    config: Mapping[str, Any]


def load(path: Path, *, adapter_path: Path | None, trust_remote_code: bool) -> LoadedModel:
    try:
        network, tokenizer, config = load_network(
            str(path),
            tokenizer_config={"trust_remote_code": trust_remote_code},
            adapter_path=None if adapter_path is None else str(adapter_path),
            return_config=True,
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        raise LoadError(f"mlx-lm cannot load {str(path)!r}: {describe_error(error)}.") from error
    cache_ops(network).check_batching("mlx-lm", path)
    return LoadedModel(network, _tokenizer(tokenizer), config)


def _tokenizer(wrapper: Any) -> Tokenizer:
    # Used only without a Jinja template, because the wrapper sets enable_thinking even if the request does not.
    function = wrapper.apply_chat_template if wrapper.has_chat_template else None
    return Tokenizer(wrapper._tokenizer, wrapper.eos_token_ids, function)


def hidden_states(network: Any) -> HiddenStates | None:
    """Return the network without its head; None if it does not consist of a backbone `model` and a head."""
    text = network.get("language_model", network)
    if "model" not in text:
        return None
    backbone = text["model"]

    def states(tokens: Array, mask: Array) -> Array:
        # Attention is causal, so padding on the right needs no mask.
        return backbone(tokens)

    return states


def next_logprobs(network: Any, tokens: list[int], chunk: int) -> Iterator[Array]:
    """The log-probabilities (up to `chunk` tokens, vocabulary) of the token after each of `tokens`, in order."""
    cache = cache_ops(network).new()
    for start in range(0, len(tokens), chunk):
        logits = network(mx.array(tokens[start : start + chunk])[None], cache=cache)[0].astype(mx.float32)
        yield logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def cache_ops(network: Any) -> LayerCaches:
    """The operations on mlx-lm's caches."""
    return LayerCaches(lambda: make_prompt_cache(network), trimmable=LayerCache, nested=CacheList)


class SampledTokens:
    """The tokens sampled in a step; they are read while the next forward pass, whose input they are, is computed."""

    def __init__(self, tokens: Array) -> None:
        # After sequences joined or left the array is not computed yet; the next pass must not be scheduled before it.
        mx.async_eval(tokens)  # type: ignore[no-untyped-call]
        self._array = tokens
        self._tokens: list[int] | None = None

    def read(self, logits: Array) -> list[int]:
        """Wait for the tokens, after scheduling the computation of the logits that follow them."""
        if self._tokens is None:
            mx.async_eval(logits)  # type: ignore[no-untyped-call]
            self._tokens = self._array.tolist()
        return self._tokens


class GuidedLogitsProcessor:
    """A Guide as the last logits processor of sequence number `index` in the batch."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._sampled: SampledTokens | None = None
        self._index = 0

    def set_sampled(self, sampled: SampledTokens, index: int) -> None:
        self._sampled, self._index = sampled, index

    def __call__(self, _: Array, logits: Array) -> Array:
        token = None if self._sampled is None else self._sampled.read(logits)[self._index]
        return self._guide.process(token, logits)


class LmBatch:
    """A SequenceBatch on mlx-lm's BatchGenerator."""

    def __init__(self, network: Any, *, stop_tokens: Iterable[int], size: int, prefill_step_size: int) -> None:
        self._generator = BatchGenerator(
            network,
            stop_tokens=[[token] for token in sorted(stop_tokens)],
            sampler=greedy,
            completion_batch_size=size,
            prefill_step_size=prefill_step_size,
        )

    def add(self, sequence: SequenceState) -> int:
        cached, guide = sequence.cached, sequence.guide
        processors = sequence.processors
        (uid,) = self._generator.insert_segments(
            [sequence.segments],
            max_tokens=[sequence.max_tokens],
            caches=[None if cached is None else cached.cache],
            all_tokens=[[] if cached is None else list(cached.tokens)],
            samplers=[sequence.sampler],
            logits_processors=[processors if guide is None else [*processors, GuidedLogitsProcessor(guide)]],
        )
        return int(uid)

    def remove(self, sequence_ids: Iterable[int]) -> None:
        with mx.stream(self._generator.stream):
            self._generator.remove(list(sequence_ids))

    def step(self) -> StepOutput:
        prefills, tokens = self._generator.next()
        self._update_guided()
        return StepOutput(
            [PrefillOutput(prefill.uid, prefill.progress[0]) for prefill in prefills],
            [
                TokenOutput(
                    response.uid,
                    response.token,
                    response.logprobs,
                    response.finish_reason,
                    None
                    if response.prompt_cache is None
                    else CacheSnapshot(response.all_tokens, response.prompt_cache),
                )
                for response in tokens
            ],
        )

    def snapshot(self, sequence_id: int) -> CacheSnapshot:
        with mx.stream(self._generator.stream):
            cache, tokens = self._generator.extract_cache([sequence_id])[sequence_id]
            return CacheSnapshot(list(tokens), cache)

    def materialize(self, snapshot: CacheSnapshot) -> None:
        with mx.stream(self._generator.stream):
            mx.async_eval([layer.state for layer in snapshot.cache])  # type: ignore[no-untyped-call]

    @property
    def nbytes(self) -> int:
        return int(self._generator.prompt_cache_nbytes)

    def close(self) -> None:
        self._generator.close()

    def _update_guided(self) -> None:
        """Pass the tokens of the step to the guided processors before mlx-lm returns them in the next step."""
        running = self._generator._generation_batch
        guided = [
            (index, processor)
            for index, processors in enumerate(running.logits_processors)
            for processor in processors
            if isinstance(processor, GuidedLogitsProcessor)
        ]
        if guided:
            sampled = SampledTokens(running._next_tokens)
            for index, processor in guided:
                processor.set_sampled(sampled, index)

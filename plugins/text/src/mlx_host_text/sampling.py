"""Samplers and logits processors in plain MLX.

Order: repetition penalty, presence and frequency penalties, logit bias, token masks (token_masks.py), grammar mask, the
reported log-probabilities, temperature, top-k, top-p, min-p, XTC, the draw.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

Array = Any
Sampler = Callable[[Array], Array]
"""Log-probabilities (sequences, vocabulary) to tokens (sequences,)."""
LogitsProcessor = Callable[[Array, Array], Array]
"""A sequence's tokens so far (prompt and output) and its logits (1, vocabulary) to new logits."""

MIN_TEMPERATURE = 1e-5
SEED_MASK = (1 << 64) - 1
# Any odd 64-bit constant keeps the seeds of a request's choices distinct; this one is the golden ratio's fraction.
SEED_STRIDE = 0x9E3779B97F4A7C15
MAX_SHARED_SAMPLERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """Sampling parameters with all defaults resolved; without `repetition_context_size` all tokens are penalized."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_context_size: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1


def greedy(logprobs: Array) -> Array:
    return mx.argmax(logprobs, axis=-1)


class RandomSampler:
    """Draws tokens with a private chain of random keys, so that other sequences do not affect the draws."""

    def __init__(self, settings: SamplingSettings, seed: int, xtc_exempt: Sequence[int]) -> None:
        self._filters = _filters(settings)
        self._temperature = settings.temperature
        self._xtc = (settings.xtc_probability, settings.xtc_threshold) if settings.xtc_probability > 0 else None
        self._xtc_exempt = list(xtc_exempt)
        self._key = mx.random.key(seed & SEED_MASK)

    def __call__(self, logprobs: Array) -> Array:
        self._key, draw, coin = mx.random.split(self._key, 3)
        logits = logprobs.astype(mx.float32) / self._temperature
        for keep in self._filters:
            logits = keep(logits)
        if self._xtc:
            logits = xtc(logits, *self._xtc, exempt=self._xtc_exempt, key=coin)
        # Not mx.random.categorical: it searches a running sum, where the last bit of any logit may change the token
        # drawn; the argmax of logits plus Gumbel noise changes only if two are almost equal.
        return mx.argmax(logits + mx.random.gumbel(logits.shape, key=draw), axis=-1)


class SamplerFactory:
    """Creates samplers; unseeded sequences with equal settings share one, and are then sampled in one call."""

    def __init__(self, xtc_exempt: Sequence[int]) -> None:
        self._xtc_exempt = xtc_exempt
        self._shared: dict[tuple[object, ...], RandomSampler] = {}

    def sampler(self, settings: SamplingSettings, seed: int | None, choice: int) -> Sampler:
        if settings.temperature < MIN_TEMPERATURE:
            return greedy
        if seed is not None:
            return RandomSampler(settings, seed + choice * SEED_STRIDE, self._xtc_exempt)
        key = (
            settings.temperature,
            settings.top_p,
            settings.top_k,
            settings.min_p,
            settings.xtc_probability,
            settings.xtc_threshold,
        )
        if key not in self._shared:
            if len(self._shared) >= MAX_SHARED_SAMPLERS:
                self._shared.pop(next(iter(self._shared)))
            self._shared[key] = RandomSampler(settings, secrets.randbits(64), self._xtc_exempt)
        return self._shared[key]


def _filters(settings: SamplingSettings) -> list[Callable[[Array], Array]]:
    filters: list[Callable[[Array], Array]] = []
    if settings.top_k > 0:
        filters.append(lambda logits: top_k(logits, settings.top_k))
    if settings.top_p < 1:
        filters.append(lambda logits: top_p(logits, settings.top_p))
    if settings.min_p > 0:
        filters.append(lambda logits: min_p(logits, settings.min_p))
    return filters


def top_k(logits: Array, k: int) -> Array:
    """Keep the k most likely tokens."""
    if k >= logits.shape[-1]:
        return logits
    dropped = mx.argpartition(-logits, kth=k - 1, axis=-1)[..., k:]
    return mx.put_along_axis(logits, dropped, mx.array(-mx.inf, logits.dtype), axis=-1)


def top_p(logits: Array, p: float) -> Array:
    """Keep the most likely tokens whose total probability reaches p, at least one."""
    ordered = mx.sort(logits, axis=-1)
    mass = mx.softmax(ordered, axis=-1)
    above = mx.cumsum(mass, axis=-1, reverse=True, inclusive=False)
    dropped = mx.minimum((above >= p).sum(axis=-1, keepdims=True), logits.shape[-1] - 1)
    return mx.where(logits < mx.take_along_axis(ordered, dropped, axis=-1), -mx.inf, logits)


def min_p(logits: Array, p: float) -> Array:
    """Keep the tokens at least p times as likely as the likeliest."""
    probabilities = mx.softmax(logits, axis=-1)
    return mx.where(probabilities < p * probabilities.max(axis=-1, keepdims=True), -mx.inf, logits)


def xtc(logits: Array, probability: float, threshold: float, *, exempt: Sequence[int], key: Array) -> Array:
    """With the given probability, drop all tokens above the threshold except the least likely of them and `exempt`."""
    probabilities = mx.softmax(logits, axis=-1)
    least = mx.where(probabilities > threshold, probabilities, mx.inf).min(axis=-1, keepdims=True)
    excluded = probabilities > least
    if exempt:
        excluded[..., list(exempt)] = False
    happens = mx.random.uniform(shape=(*logits.shape[:-1], 1), key=key) < probability
    return mx.where(happens & excluded, -mx.inf, logits)


def logits_processors(
    settings: SamplingSettings, logit_bias: Mapping[int, float], prompt_tokens: int
) -> list[LogitsProcessor]:
    """The processors for these settings, in order.

    The repetition penalty covers prompt and output; presence and frequency penalties cover the output only, as OpenAI
    defines them.
    """
    chain: list[LogitsProcessor] = []
    if settings.repetition_penalty != 1:
        chain.append(_repetition(settings.repetition_penalty, settings.repetition_context_size))
    if settings.presence_penalty or settings.frequency_penalty:
        chain.append(_presence_and_frequency(settings.presence_penalty, settings.frequency_penalty, prompt_tokens))
    if logit_bias:
        chain.append(_bias(logit_bias))
    return chain


def _repetition(penalty: float, context_size: int | None) -> LogitsProcessor:
    """As in transformers and vLLM, for which models' makers choose the penalty, unless `context_size` is set."""

    def process(tokens: Array, logits: Array) -> Array:
        recent = tokens if context_size is None else tokens[-context_size:]
        # Images and audio are negative numbers, which cannot be penalized.
        counts = (
            mx.zeros(logits.shape[-1], dtype=mx.int32).at[mx.maximum(recent, 0)].add((recent >= 0).astype(mx.int32))
        )
        return mx.where(counts > 0, mx.where(logits < 0, logits * penalty, logits / penalty), logits)

    return process


def _presence_and_frequency(presence: float, frequency: float, prompt_tokens: int) -> LogitsProcessor:
    def process(tokens: Array, logits: Array) -> Array:
        output = tokens[prompt_tokens:]
        if not output.size:
            return logits
        counts = mx.zeros(logits.shape, dtype=mx.float32).at[:, output].add(1.0)
        return logits - (frequency * counts + presence * (counts > 0)).astype(logits.dtype)

    return process


def _bias(logit_bias: Mapping[int, float]) -> LogitsProcessor:
    tokens = mx.array(list(logit_bias))
    values = mx.array(list(logit_bias.values()), dtype=mx.float32)

    def process(_: Array, logits: Array) -> Array:
        return logits.at[:, tokens].add(values.astype(logits.dtype))

    return process

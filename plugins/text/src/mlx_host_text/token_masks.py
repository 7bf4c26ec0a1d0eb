"""Logits processors that exclude tokens: allowed tokens, bad words, and end tokens that come too early."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import GenerationRequest, Sampling

from mlx_host_text.sampling import Array, LogitsProcessor
from mlx_host_text.sampling_defaults import check_tokens

_EXCLUSIVE = ("min_tokens", "ignore_eos", "bad_words", "allowed_token_ids")


def token_masks(
    request: GenerationRequest,
    prompt_tokens: int,
    *,
    vocabulary_size: int,
    eos_ids: frozenset[int],
    encode: Callable[[str], Sequence[int]],
) -> list[LogitsProcessor]:
    """Return the processors for a request.

    InvalidRequestError for token ids outside the vocabulary, if no token is left, and together with structured output:
    a grammar may require a token that a mask excludes.
    """
    sampling = request.sampling
    if request.constraint is not None:
        _reject_with_constraint(sampling)
    check_tokens(sampling.stop_token_ids, vocabulary_size, "stop_token_ids")
    banned, sequences = _bad_words(sampling.bad_words, encode)
    if sampling.ignore_eos:
        banned |= eos_ids
    chain: list[LogitsProcessor] = []
    if sampling.allowed_token_ids is not None:
        allowed = set(sampling.allowed_token_ids)
        check_tokens(sampling.allowed_token_ids, vocabulary_size, "allowed_token_ids")
        if not allowed - banned:
            raise InvalidRequestError(
                "allowed_token_ids: no token is left to generate; list at least one that bad_words and ignore_eos do "
                "not exclude.",
                param="allowed_token_ids",
            )
        chain.append(_mask(set(range(vocabulary_size)) - allowed))
    if banned:
        chain.append(_mask(banned))
    chain += [_after(sequence, prompt_tokens) for sequence in sequences]
    early = eos_ids | set(sampling.stop_token_ids)
    if sampling.min_tokens and early:
        chain.append(_until(_mask(early), prompt_tokens + sampling.min_tokens))
    return chain


def _reject_with_constraint(sampling: Sampling) -> None:
    for name in _EXCLUSIVE:
        if getattr(sampling, name) not in (None, False, 0, ()):
            raise InvalidRequestError(
                f"{name} cannot be combined with structured output or enforced tool schemas; remove one of them.",
                param=name,
            )


def _bad_words(words: Sequence[str], encode: Callable[[str], Sequence[int]]) -> tuple[set[int], list[tuple[int, ...]]]:
    """The words that are one token, and the others; each as it is at the start of a text and after a space."""
    spellings = dict.fromkeys(
        tuple(encode(spelling)) for word in words for spelling in (word, f" {word.lstrip()}") if word
    )
    return {tokens[0] for tokens in spellings if len(tokens) == 1}, [tokens for tokens in spellings if len(tokens) > 1]


def _mask(banned: set[int] | frozenset[int]) -> LogitsProcessor:
    tokens = mx.array(sorted(banned))

    def process(_: Array, logits: Array) -> Array:
        logits[:, tokens] = -mx.inf
        return logits

    return process


def _after(sequence: Sequence[int], prompt_tokens: int) -> LogitsProcessor:
    """Exclude the last token of a sequence where the output ends with the tokens before it."""
    *prefix, last = sequence
    start = mx.array(prefix)

    def process(tokens: Array, logits: Array) -> Array:
        output = tokens[prompt_tokens:]
        if output.size >= len(prefix):
            matches = mx.all(output[-len(prefix) :] == start)
            logits[:, last] = mx.where(matches, -mx.inf, logits[:, last])
        return logits

    return process


def _until(mask: LogitsProcessor, length: int) -> LogitsProcessor:
    """Apply a mask while prompt and output together have fewer than `length` tokens."""

    def process(tokens: Array, logits: Array) -> Array:
        return mask(tokens, logits) if tokens.size < length else logits

    return process

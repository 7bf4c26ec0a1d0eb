"""Prompts without a chat template: texts and token ids to continue, fill-in-the-middle, and echoed prompts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_host.errors import InvalidRequestError
from mlx_host.events import Logprobs, PromptEcho
from mlx_host.requests import CompletionRequest

from mlx_host_text.limits import TextLimits
from mlx_host_text.logprobs import token_logprob, top_logprobs
from mlx_host_text.sampling import Array
from mlx_host_text.sampling_defaults import check_tokens
from mlx_host_text.tokenizer import Tokenizer

PromptLogprobs = Callable[[list[int], int], Iterator[Array]]
"""Runs the network over token ids in chunks of at most the given size.

Yields, for each chunk, the log-probabilities (chunk, vocabulary) of the token after each of its tokens.
"""

# Prompt tokens whose log-probabilities are computed between two decoding steps; each takes a row of the vocabulary.
LOGPROBS_CHUNK = 128


@dataclass(frozen=True)
class FimTokens:
    """The special tokens of one model family for fill-in-the-middle: before the prefix, the suffix and the middle."""

    prefix: str
    suffix: str
    middle: str | None
    suffix_first: bool = False


FIM_TOKENS = (
    FimTokens("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    FimTokens("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    FimTokens("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    FimTokens("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
    FimTokens("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),
    FimTokens(prefix="[PREFIX]", suffix="[SUFFIX]", middle=None, suffix_first=True),
)
"""Of Qwen and CodeGemma, StarCoder and Granite, GLM, DeepSeek, Code Llama, and Codestral."""


class CompletionPrompts:
    """The prompts of one model's completions."""

    def __init__(self, tokenizer: Tokenizer, vocabulary_size: int, limits: TextLimits) -> None:
        self._limits = limits
        self._tokenizer = tokenizer
        self._vocabulary_size = vocabulary_size
        self._fim = next((fim for fim in FIM_TOKENS if self._has(fim)), None)

    def tokens(self, request: CompletionRequest) -> list[int]:
        """The token ids of the prompt."""
        if request.suffix is not None:
            return self._fill_in_the_middle(request, request.suffix)
        tokens = self._encode(request)
        if not tokens:
            raise InvalidRequestError("The prompt is empty; send some text.", param="prompt")
        return tokens

    def _has(self, fim: FimTokens) -> bool:
        symbols = (fim.prefix, fim.suffix, fim.middle)
        return all(self._tokenizer.token(symbol) is not None for symbol in symbols if symbol is not None)

    def _encode(self, request: CompletionRequest) -> list[int]:
        if isinstance(request.prompt, str):
            self._limits.check_length(request, self._tokenizer.min_tokens(request.prompt), at_least=True)
            return self._tokenizer.encode_start(request.prompt, special_tokens=request.special_tokens)
        check_tokens(request.prompt, self._vocabulary_size, "prompt")
        return list(request.prompt)

    def _fill_in_the_middle(self, request: CompletionRequest, suffix: str) -> list[int]:
        if self._fim is None:
            raise InvalidRequestError(
                "suffix: this model does not support fill-in-the-middle (its tokenizer has no tokens for it); "
                "remove suffix.",
                param="suffix",
            )
        if request.echo:
            raise InvalidRequestError("echo cannot be combined with suffix; remove one of them.", param="echo")
        if isinstance(request.prompt, str):
            start = self._tokenizer.encode_start("", special_tokens=request.special_tokens)
            self._limits.check_length(
                request, self._tokenizer.min_tokens(request.prompt) + self._tokenizer.min_tokens(suffix), at_least=True
            )
            before = self._tokenizer.encode(request.prompt)
        else:
            start, before = [], self._encode(request)
        prefix = [*self._special(self._fim.prefix), *before]
        after = [*self._special(self._fim.suffix), *self._tokenizer.encode(suffix)]
        parts = (after, prefix) if self._fim.suffix_first else (prefix, after)
        return [*start, *parts[0], *parts[1], *self._special(self._fim.middle)]

    def _special(self, symbol: str | None) -> list[int]:
        token = None if symbol is None else self._tokenizer.token(symbol)
        return [] if token is None else [token]


def echo_prompt(
    request: CompletionRequest, tokens: Sequence[int], tokenizer: Tokenizer, prompt_logprobs: PromptLogprobs
) -> Generator[None, None, PromptEcho]:
    """The echo of a prompt, with log-probabilities if requested; yields between chunks."""
    text = request.prompt if isinstance(request.prompt, str) else tokenizer.decode(request.prompt)
    if request.top_logprobs is None:
        return PromptEcho(text)
    logprobs = [Logprobs(token_logprob(tokens[0], 0.0, tokenizer.token_bytes))]
    for rows in prompt_logprobs(list(tokens[:-1]), LOGPROBS_CHUNK):
        chosen = tokens[len(logprobs) : len(logprobs) + rows.shape[0]]
        values: Any = mx.take_along_axis(rows, mx.array(list(chosen))[:, None], axis=-1)[:, 0].tolist()
        tops = top_logprobs(rows, request.top_logprobs, tokenizer.token_bytes)
        for token, value, top in zip(chosen, values, tops, strict=True):
            logprobs.append(Logprobs(token_logprob(token, value, tokenizer.token_bytes), tuple(top)))
        yield None
    return PromptEcho(text, tuple(logprobs))

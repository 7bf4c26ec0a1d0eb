"""Prompts without a chat template: texts and token ids to go on with, gaps to fill, and what a prompt's tokens cost."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_host.errors import InvalidRequestError
from mlx_host.events import Logprobs, PromptEcho
from mlx_host.requests import CompletionRequest

from mlx_host_lm.answer import best_of_each, candidate
from mlx_host_lm.mlx_lm_api import Tokenizer
from mlx_host_lm.sampling import Array
from mlx_host_lm.settings import check_tokens

NextLogprobs = Callable[[list[int], int], Iterator[Array]]
"""What a sequence's tokens say of the next one: log-probabilities, in order, of up to so many tokens at a time."""

# Prompt tokens whose log-probabilities are computed between two decoding steps; a row is as long as the vocabulary.
LOGPROBS_STEP = 128


@dataclass(frozen=True)
class Infilling:
    """The tokens that models of one family are told a gap with, before its beginning, its end, and the filling."""

    first: str
    second: str
    last: str | None
    suffix_first: bool = False


INFILLING = (
    Infilling("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    Infilling("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    Infilling("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    Infilling("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
    Infilling("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),
    Infilling("[SUFFIX]", "[PREFIX]", None, suffix_first=True),
)
"""As Qwen and CodeGemma, StarCoder and Granite, GLM, DeepSeek, Code Llama, and Codestral have them."""


class Completions:
    """How one model's completions begin."""

    def __init__(self, next_logprobs: NextLogprobs, tokenizer: Tokenizer, vocabulary: int) -> None:
        self._next_logprobs = next_logprobs
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._infilling = next((layout for layout in INFILLING if self._has(layout)), None)

    def tokens(self, request: CompletionRequest) -> list[int]:
        """What the model reads."""
        if request.suffix is not None:
            return self._around_a_gap(request, request.suffix)
        tokens = self._encode(request)
        if not tokens:
            raise InvalidRequestError("the prompt is empty; send some text", param="prompt")
        return tokens

    def echo(self, request: CompletionRequest, tokens: list[int]) -> Generator[None, None, PromptEcho]:
        """Make the echo of a prompt, giving way between pieces of work."""
        text = request.prompt if isinstance(request.prompt, str) else self._tokenizer.decode(request.prompt)
        if request.top_logprobs is None:
            return PromptEcho(text)
        logprobs = [Logprobs(candidate(tokens[0], 0.0, self._tokenizer.token_bytes))]
        for rows in self._next_logprobs(tokens[:-1], LOGPROBS_STEP):
            chosen = tokens[len(logprobs) : len(logprobs) + rows.shape[0]]
            values: Any = mx.take_along_axis(rows, mx.array(chosen)[:, None], axis=-1)[:, 0].tolist()
            tops = best_of_each(rows, request.top_logprobs, self._tokenizer.token_bytes)
            for token, value, top in zip(chosen, values, tops, strict=True):
                logprobs.append(Logprobs(candidate(token, value, self._tokenizer.token_bytes), tuple(top)))
            yield None
        return PromptEcho(text, tuple(logprobs))

    def _has(self, layout: Infilling) -> bool:
        symbols = (layout.first, layout.second, layout.last)
        return all(self._tokenizer.token(symbol) is not None for symbol in symbols if symbol is not None)

    def _encode(self, request: CompletionRequest) -> list[int]:
        if isinstance(request.prompt, str):
            return self._tokenizer.encode_start(request.prompt, special_tokens=request.special_tokens)
        check_tokens(request.prompt, self._vocabulary, "prompt")
        return list(request.prompt)

    def _around_a_gap(self, request: CompletionRequest, suffix: str) -> list[int]:
        if self._infilling is None:
            raise InvalidRequestError(
                "this model cannot fill a gap: its tokenizer has no tokens for it; leave out suffix", param="suffix"
            )
        if request.echo:
            raise InvalidRequestError("echo cannot go with suffix: the prompt is then not one text", param="echo")
        if isinstance(request.prompt, str):
            start = self._tokenizer.encode_start("", special_tokens=request.special_tokens)
            before = self._tokenizer.encode(request.prompt)
        else:
            start, before = [], self._encode(request)
        layout, after = self._infilling, self._tokenizer.encode(suffix)
        one, other = (after, before) if layout.suffix_first else (before, after)
        return [*start, *self._mark(layout.first), *one, *self._mark(layout.second), *other, *self._mark(layout.last)]

    def _mark(self, symbol: str | None) -> list[int]:
        token = None if symbol is None else self._tokenizer.token(symbol)
        return [] if token is None else [token]

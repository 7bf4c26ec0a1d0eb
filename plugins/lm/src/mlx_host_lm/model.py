"""The text model: requests become rows of one running batch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
from mlx_host.backend import LoadContext, Model
from mlx_host.embedding import Embedder, Embeddings
from mlx_host.errors import ContextLengthExceededError, LoadError, UnsupportedRequestError
from mlx_host.events import Event, EventBatch, Finished, Started, TextDelta, Tokenized
from mlx_host.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    GenerationRequest,
    Request,
    TokenizeRequest,
)

from mlx_host_lm.answer import Answer, Plan
from mlx_host_lm.batch import Batch, Rows
from mlx_host_lm.completions import Completions, NextLogprobs
from mlx_host_lm.embedding import TextEmbedder
from mlx_host_lm.mlx_lm_api import (
    Loaded,
    Snapshot,
    Tokenizer,
    can_always_trim,
    fresh_cache,
    has_trunk,
    load,
    next_logprobs,
)
from mlx_host_lm.mlx_lm_api import Rows as TextRows
from mlx_host_lm.options import SERVES, LmOptions
from mlx_host_lm.prompt_cache import PromptCache
from mlx_host_lm.prompts import Prompt, Prompts, read_template
from mlx_host_lm.sampling import Samplers, processors
from mlx_host_lm.settings import POSITIONS, check_logit_bias, check_tokens, find_number, read_generation_config, resolve
from mlx_host_lm.structure import Rule, Structure

CONCURRENCY = 32
# So many tokens tell how any text goes on; see WindowDetokenizer.
CONTEXT = 8
# Tokens of padding that cost less than another pass over the weights.
EMBEDDING_SLACK = 64


def load_model(request: LoadContext[LmOptions]) -> LanguageModel:
    if request.path is None or not request.path.is_dir():
        raise LoadError(f"the backend lm needs a folder with an MLX model, and {request.ref!r} is none")
    options = request.options
    request.progress("load", 0, 1, str(request.ref))
    loaded = load(request.path, adapter_path=options.adapter_path, trust_remote_code=options.trust_remote_code)
    model = LanguageModel(text_parts(loaded, options), options, read_generation_config(request.path))
    request.progress("load", 1, 1, str(request.ref))
    request.progress("warm-up", 0, 1)
    model.warm_up()
    request.progress("warm-up", 1, 1)
    return model


@dataclass(frozen=True)
class Parts:
    """What a network brings for its model to be served; `trimmable` is the PromptCache's."""

    tokenizer: Tokenizer
    config: Mapping[str, Any]
    prompts: Prompts
    open_rows: Callable[[], Rows]
    trimmable: bool
    next_logprobs: NextLogprobs
    embedder: Embedder | None


def text_parts(loaded: Loaded, options: LmOptions) -> Parts:
    """The Parts of a text model."""
    network, tokenizer = loaded.network, loaded.tokenizer
    limit, size = context_length(loaded.config, options), vocabulary_size(loaded.config, tokenizer)
    return Parts(
        tokenizer=tokenizer,
        config=loaded.config,
        prompts=Prompts(tokenizer, read_template(options.chat_template_file)),
        open_rows=lambda: TextRows(
            network, stop_tokens=tokenizer.eos_ids, size=CONCURRENCY, prefill_step_size=options.prefill_step_size
        ),
        trimmable=can_always_trim(fresh_cache(network)),
        next_logprobs=partial(next_logprobs, network),
        embedder=TextEmbedder(loaded, size, limit) if has_trunk(network) else None,
    )


class LanguageModel(Model):
    """A model that writes text, with continuous batching."""

    supported_requests = SERVES
    concurrency = CONCURRENCY

    def __init__(self, parts: Parts, options: LmOptions, generation_config: Mapping[str, Any]) -> None:
        tokenizer = parts.tokenizer
        self._options = options
        self._generation_config = generation_config
        self._tokenizer = tokenizer
        self._prompts = parts.prompts
        self._vocabulary = vocabulary_size(parts.config, tokenizer)
        self._completions = Completions(parts.next_logprobs, tokenizer, self._vocabulary)
        self._samplers = Samplers(xtc_exempt=sorted({*tokenizer.encode("\n"), *tokenizer.eos_ids}))
        self._trimmable = parts.trimmable
        self._batch = Batch(parts.open_rows, PromptCache(trimmable=parts.trimmable), options.prompt_cache_bytes)
        self.context_length = context_length(parts.config, options)
        self.chat_template = self._prompts.source
        vocabulary = tokenizer.vocabulary()
        self._structure = None if vocabulary is None else Structure(vocabulary)
        self.supports_structured_outputs = vocabulary is not None
        self._embeddings: Embeddings | None = None
        if parts.embedder is not None:
            # A pass of embeddings is to decoding steps what a piece of a prompt is.
            size = options.prefill_step_size
            self._embeddings = Embeddings(parts.embedder, batch_tokens=size, slack=EMBEDDING_SLACK)

    def generate(self, request: Request) -> Iterator[Event | None]:
        match request:
            case ChatRequest():
                return self._chat(request)
            case CompletionRequest():
                return self._complete(request)
            case TokenizeRequest():
                return self._tokenize(request)
            case DetokenizeRequest():
                return self._detokenize(request)
            case EmbeddingRequest():
                return self._embed(request)
        raise UnsupportedRequestError(f"This model does not serve {request.task} requests.", param="model")

    def _chat(self, request: ChatRequest) -> Iterator[Event | None]:
        prompt = self._prompts.render(request)
        plan = yield from self._plan(request, prompt)
        yield from self._answer(plan, started(plan, prompt.tail))

    def _complete(self, request: CompletionRequest) -> Iterator[Event | None]:
        tokens = self._completions.tokens(request)
        plan = yield from self._plan(request, Prompt(tokens, tail="", tail_tokens=0), context=tokens[-CONTEXT:])
        opening: Event = started(plan)
        if request.echo:
            echoed = yield from self._completions.echo(request, tokens)
            opening = EventBatch((opening, echoed))
        yield from self._answer(plan, opening)

    def _answer(self, plan: Plan, opening: Event) -> Iterator[Event | None]:
        if plan.max_tokens > 0:
            yield from Answer(plan, self._batch, self._tokenizer).events(opening)
        else:
            yield opening
            yield Finished(reason="length", completion_tokens=0)

    def _tokenize(self, request: TokenizeRequest) -> Iterator[Event | None]:
        if isinstance(request.prompt, ChatRequest):
            text = self._prompts.text(request.prompt, generation_prompt=request.add_generation_prompt)
            tokens = self._tokenizer.encode(text)
        else:
            tokens = self._tokenizer.encode_start(request.prompt, special_tokens=request.special_tokens)
        # Not prompt_tokens: nothing is read but by the tokenizer.
        yield Started(prompt_tokens=0)
        yield Tokenized(tuple(tokens), tuple(self._tokenizer.symbols(tokens)))
        yield Finished()

    def _detokenize(self, request: DetokenizeRequest) -> Iterator[Event | None]:
        check_tokens(request.tokens, self._vocabulary, "tokens")
        yield Started(prompt_tokens=0)
        yield TextDelta(self._tokenizer.decode(request.tokens), token_count=0)
        yield Finished()

    def _embed(self, request: EmbeddingRequest) -> Iterator[Event | None]:
        if self._embeddings is None:
            raise UnsupportedRequestError(
                "This model's architecture gives no hidden states to embed with.", param="model"
            )
        return self._embeddings.generate(request)

    def warm_up(self) -> None:
        self._batch.warm_up()

    def close(self) -> None:
        self._batch.close()
        if self._structure is not None:
            self._structure.close()
        mx.clear_cache()

    def _plan(
        self, request: GenerationRequest, prompt: Prompt, context: Sequence[int] = (), inputs: Any = None
    ) -> Generator[None, None, Plan]:
        """Say what is to be generated; gives way while the form of the answers is compiled."""
        tokens, length = prompt.tokens, len(prompt.tokens)
        check_logit_bias(request.sampling.logit_bias, self._vocabulary)
        settings = resolve(request.sampling, self._options, self._generation_config)
        rule = yield from self._rule(request, prompt.tail, starts=not context)
        cached, keep_at = self._prefix(prompt, inputs)
        seed = request.sampling.seed
        return Plan(
            prompt=tokens,
            cached=cached,
            keep_at=keep_at,
            n=request.n,
            max_tokens=self._room(request, length),
            samplers=[self._samplers.sampler(settings, seed, choice) for choice in range(request.n)],
            processors=processors(settings, request.sampling.logit_bias, length),
            top_logprobs=request.top_logprobs,
            guides=[] if rule is None else [rule.guide() for _ in range(request.n)],
            context=context,
            inputs=inputs,
        )

    def _rule(self, request: GenerationRequest, tail: str, *, starts: bool) -> Generator[None, None, Rule | None]:
        if request.constraint is None:
            return None
        if self._structure is None:
            raise UnsupportedRequestError(
                "This model's answers cannot be held to a form: its tokenizer does not tell the bytes of its tokens."
            )
        return (yield from self._structure.compile(request.constraint, tail, starts=starts))

    def _prefix(self, prompt: Prompt, inputs: Any) -> tuple[Snapshot | None, int | None]:
        """What is cached of a prompt, and how much of it is to be."""
        length = len(prompt.tokens)
        # Recurrent states and sliding windows cannot be cut back, so theirs is kept where the next turn's prompt parts.
        keep_at = length - 1 if self._trimmable else length - prompt.tail_tokens
        keeps = keep_at < length and self._options.prompt_cache_bytes
        return self._batch.longest_cached_prefix(prompt.tokens), keep_at if keeps else None

    def _room(self, request: GenerationRequest, prompt_tokens: int) -> int:
        """How many tokens may be generated: what is wanted, as far as it fits after the prompt."""
        limit = sys.maxsize if self.context_length is None else self.context_length
        if prompt_tokens > limit:
            param = "messages" if isinstance(request, ChatRequest) else "prompt"
            raise ContextLengthExceededError(limit, prompt_tokens, param=param)
        most = self._options.max_tokens if request.max_tokens is None else request.max_tokens
        return limit - prompt_tokens if most is None else min(most, limit - prompt_tokens)


def context_length(config: Mapping[str, Any], options: LmOptions) -> int | None:
    """Most tokens of prompt and answer together; None if nothing limits them."""
    limits = (options.context_length, find_number(config, *POSITIONS))
    return min((limit for limit in limits if limit is not None), default=None)


def vocabulary_size(config: Mapping[str, Any], tokenizer: Tokenizer) -> int:
    return find_number(config, "vocab_size") or len(tokenizer)


def started(plan: Plan, tail: str = "") -> Started:
    return Started(prompt_tokens=len(plan.prompt), cached_tokens=plan.cached_tokens, generation_prompt=tail)

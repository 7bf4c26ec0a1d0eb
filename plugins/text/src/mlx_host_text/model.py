"""The text model: requests become sequences of one running batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import mlx.core as mx
from mlx_host.backend import Model
from mlx_host.errors import UnsupportedRequestError
from mlx_host.events import (
    Event,
    EventBatch,
    Explained,
    Finished,
    Started,
    TextDelta,
    TokenCount,
    Tokenized,
    TokenizerInfo,
)
from mlx_host.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    ExplainRequest,
    GenerationRequest,
    Request,
    Sampling,
    TokenizeRequest,
    TokenizerInfoRequest,
)

from mlx_host_text.background import BackgroundThreads
from mlx_host_text.completions import PromptLogprobs, echo_prompt
from mlx_host_text.embedding_scheduler import Embedder, EmbeddingScheduler
from mlx_host_text.generation_loop import GenerationLoop
from mlx_host_text.history import complete_history, not_rendered
from mlx_host_text.limits import TextLimits
from mlx_host_text.options import SUPPORTED_REQUESTS, GenerationOptions
from mlx_host_text.prefix_cache import PrefixCache
from mlx_host_text.prompts import Prompt, PromptSource
from mlx_host_text.reasoning_budget import ReasoningBudget
from mlx_host_text.request_state import GenerationPlan, RequestState
from mlx_host_text.sampling import SamplerFactory, logits_processors
from mlx_host_text.sampling_defaults import check_logit_bias, check_tokens, resolve
from mlx_host_text.sequence import CacheOps, SequenceBatch
from mlx_host_text.structured_output import CompiledGrammar, GrammarCompiler
from mlx_host_text.token_masks import token_masks
from mlx_host_text.tokenizer import Tokenizer

# Enough tokens at the end of a prompt to decode the text that follows; see WindowDetokenizer.
CONTEXT_TOKENS = 8
# Tokens of padding that cost less than another pass over the weights.
MAX_PADDING_TOKENS = 64


# Reasoning tokens for an effort that the chat template does not read. Source: Google's documentation of its
# OpenAI-compatible API, "Thinking".
EFFORT_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}


class TextModel(Model):
    """A model that generates text with continuous batching, composed of a library's parts.

    `batch` creates an empty batch, `caches` are the operations on its caches. `prompt_logprobs` computes the
    log-probabilities of echoed prompts. `embedder` is None if the model does not serve embeddings.
    `generation_config` contains the sampling defaults from the model's generation_config.json. `input_modalities` are
    as in Model.
    """

    supported_requests = SUPPORTED_REQUESTS
    supported_parameters = frozenset(
        {
            *("min_tokens", "ignore_eos", "bad_words", "stop_token_ids", "allowed_token_ids"),
            *("max_reasoning_tokens", "continue_final_message"),
        }
    )

    def __init__(
        self,
        *,
        tokenizer: Tokenizer,
        prompts: PromptSource,
        batch: Callable[[], SequenceBatch],
        caches: CacheOps,
        prompt_logprobs: PromptLogprobs,
        embedder: Embedder | None,
        vocabulary_size: int,
        limits: TextLimits,
        options: GenerationOptions,
        generation_config: Mapping[str, Any],
        input_modalities: frozenset[str] = frozenset({"text"}),
    ) -> None:
        self.input_modalities = input_modalities
        self.concurrency = limits.concurrency
        self.context_length = limits.context_length
        self.chat_template = prompts.chat_template
        self._limits = limits
        self._options = options
        self._generation_config = generation_config
        self.sampling_defaults = asdict(resolve(Sampling(), options, generation_config))
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._threads = BackgroundThreads("tokens")
        self._prompt_logprobs = prompt_logprobs
        self._vocabulary_size = vocabulary_size
        self._samplers = SamplerFactory(xtc_exempt=sorted({*tokenizer.encode("\n"), *tokenizer.eos_ids}))
        self._prefix_cache = PrefixCache(caches)
        self._loop = GenerationLoop(batch, self._prefix_cache, options.prompt_cache_bytes)
        vocabulary = tokenizer.vocabulary()
        self._grammars = None if vocabulary is None else GrammarCompiler(vocabulary)
        self.supports_structured_outputs = vocabulary is not None
        self._embeddings: EmbeddingScheduler | None = None
        if embedder is not None:
            # A pass of embeddings delays decoding as a prefill chunk does.
            size = options.prefill_step_size
            self._embeddings = EmbeddingScheduler(embedder, batch_tokens=size, max_padding_tokens=MAX_PADDING_TOKENS)

    def generate(self, request: Request) -> Iterator[Event | None]:
        match request:
            case ChatRequest():
                return self._chat(_with_complete_history(request))
            case CompletionRequest():
                return self._complete(request)
            case TokenizeRequest(prompt=ChatRequest() as chat):
                return self._tokenize(replace(request, prompt=_with_complete_history(chat)))
            case TokenizeRequest():
                return self._tokenize(request)
            case DetokenizeRequest():
                return self._detokenize(request)
            case TokenizerInfoRequest():
                return self._tokenizer_info()
            case ExplainRequest(prompt=chat):
                return self._explain(_with_complete_history(chat))
            case EmbeddingRequest():
                return self._embed(request)
        raise UnsupportedRequestError(f"This model does not support {request.task} requests.", param="model")

    def warm_up(self) -> None:
        self._loop.warm_up()

    def close(self) -> None:
        self._loop.close()
        self._prompts.close()
        self._threads.close()
        if self._embeddings is not None:
            self._embeddings.close()
        if self._grammars is not None:
            self._grammars.close()
        mx.clear_cache()

    def _chat(self, request: ChatRequest) -> Iterator[Event | None]:
        prompt = yield from self._prompts.chat(request)
        plan = yield from self._plan(request, prompt)
        yield from self._run(plan, _started(plan, prompt.generation_prompt))

    def _explain(self, request: ChatRequest) -> Iterator[Event | None]:
        adapted, rendered = yield from self._prompts.explain(request)
        prompt = yield from self._prompts.chat(request)
        # Rejects what a chat request would reject.
        yield from self._compile(request, prompt.generation_prompt, starts=True)
        grammar = None
        if request.constraint is not None and self._grammars is not None:
            grammar = yield from self._grammars.source(request.constraint, prompt.generation_prompt)
        key = None if request.cache_salt is not None else prompt.key
        yield Started(prompt_tokens=0)
        yield Explained(
            messages=adapted.messages,
            tools=adapted.tools,
            prompt=rendered.text,
            generation_prompt=rendered.generation_prompt,
            prompt_tokens=len(prompt.tokens),
            cached_tokens=0 if key is None else self._prefix_cache.cached_length(key),
            adaptations=adapted.notes,
            dropped=not_rendered(request.messages, rendered.text),
            grammar=grammar,
        )
        yield Finished()

    def _complete(self, request: CompletionRequest) -> Iterator[Event | None]:
        prompt = yield from self._prompts.completion(request)
        plan = yield from self._plan(request, prompt, context=prompt.tokens[-CONTEXT_TOKENS:])
        opening: Event = _started(plan)
        if request.echo:
            echoed = yield from echo_prompt(request, prompt.tokens, self._tokenizer, self._prompt_logprobs)
            opening = EventBatch((opening, echoed))
        yield from self._run(plan, opening)

    def _run(self, plan: GenerationPlan, opening: Event) -> Iterator[Event | None]:
        if plan.max_tokens > 0:
            yield from RequestState(plan, self._loop, self._tokenizer).events(opening)
        else:
            yield opening
            yield Finished(reason="length", completion_tokens=0)

    def _tokenize(self, request: TokenizeRequest) -> Iterator[Event | None]:
        tokens = yield from self._prompts.tokens(request)
        # Not prompt_tokens: the network does not process them.
        yield Started(prompt_tokens=0)
        if request.count_only:
            yield TokenCount(len(tokens))
        else:
            symbols = yield from self._threads.run(self._tokenizer.symbols, tokens)
            yield Tokenized(tuple(tokens), tuple(symbols))
        yield Finished()

    def _detokenize(self, request: DetokenizeRequest) -> Iterator[Event | None]:
        check_tokens(request.tokens, self._vocabulary_size, "tokens")
        yield Started(prompt_tokens=0)
        yield TextDelta(self._tokenizer.decode(request.tokens), token_count=0)
        yield Finished()

    def _tokenizer_info(self) -> Iterator[Event | None]:
        yield Started(prompt_tokens=0)
        yield TokenizerInfo(self._tokenizer.config() | {"chat_template": self.chat_template})
        yield Finished()

    def _embed(self, request: EmbeddingRequest) -> Iterator[Event | None]:
        if self._embeddings is None:
            raise UnsupportedRequestError("This model's architecture does not support embeddings.", param="model")
        return self._embeddings.generate(request)

    def _plan(
        self, request: GenerationRequest, prompt: Prompt, context: Sequence[int] = ()
    ) -> Generator[None, None, GenerationPlan]:
        """Decide what to generate; yields while the output's grammar is compiled and the inputs are computed."""
        length = len(prompt.tokens)
        if request.cache_salt is not None:
            prompt = replace(prompt, key=None)
        self._limits.check_n(request)
        check_logit_bias(request.sampling.logit_bias, self._vocabulary_size)
        masks = token_masks(
            request,
            length,
            vocabulary_size=self._vocabulary_size,
            eos_ids=self._tokenizer.eos_ids,
            encode=self._tokenizer.encode,
        )
        settings = resolve(request.sampling, self._options, self._generation_config)
        grammar = yield from self._compile(request, prompt.generation_prompt, starts=not context)
        max_tokens = self._limits.max_new_tokens(request, length, self._options.max_tokens)
        cached = None if prompt.key is None else self._loop.longest_cached_prefix(prompt.key)
        inputs = None
        if prompt.inputs is not None:
            inputs = yield from prompt.inputs(0 if cached is None else len(cached.tokens))
            if cached is not None and inputs.start < len(cached.tokens):
                cached = None
        return GenerationPlan(
            prompt=list(prompt.tokens if prompt.key is None else prompt.key),
            cached=cached,
            checkpoints=self._checkpoints(prompt),
            cache_output=prompt.key is not None and request.n == 1,
            n=request.n,
            max_tokens=max_tokens,
            samplers=[self._samplers.sampler(settings, request.sampling.seed, index) for index in range(request.n)],
            processors=[*logits_processors(settings, request.sampling.logit_bias, length), *masks],
            top_logprobs=request.top_logprobs,
            matchers=[] if grammar is None else [grammar.matcher() for _ in range(request.n)],
            budget=self._reasoning_budget(request),
            generation_prompt=prompt.generation_prompt,
            stop_token_ids=frozenset(request.sampling.stop_token_ids),
            context=context,
            inputs=inputs,
        )

    def _reasoning_budget(self, request: GenerationRequest) -> ReasoningBudget | None:
        """Return the limit of the request, of its effort if the template does not use it, or of the option."""
        if not isinstance(request, ChatRequest) or request.reasoning_markup is None:
            return None
        tokens = request.max_reasoning_tokens
        if tokens is None and "reasoning_effort" not in (self.chat_template or ""):
            tokens = EFFORT_BUDGETS.get(str(request.template_kwargs.get("reasoning_effort")))
        if tokens is None:
            tokens = self._options.reasoning_budget
        if tokens is None or tokens < 0:
            return None
        return ReasoningBudget(tokens, request.reasoning_markup, self._options.reasoning_budget_message or "")

    def _compile(
        self, request: GenerationRequest, generation_prompt: str, *, starts: bool
    ) -> Generator[None, None, CompiledGrammar | None]:
        if request.constraint is None:
            return None
        if self._grammars is None:
            raise UnsupportedRequestError(
                "This model does not support structured output: the bytes of its tokens are unknown."
            )
        return (yield from self._grammars.compile(request.constraint, generation_prompt, starts=starts))

    def _checkpoints(self, prompt: Prompt) -> Sequence[int]:
        """The lengths at which the prefix cache gets a copy of the prompt.

        A cache that can be trimmed is stored once, at its full length; others serve the next turn only if they were
        stored where its prompt branches off.
        """
        if prompt.key is None or not self._loop.caches:
            return ()
        return (len(prompt.tokens) - 1,) if self._prefix_cache.trimmable else prompt.restore_points


def _with_complete_history(request: ChatRequest) -> ChatRequest:
    """Order tool results before anything refers to a message by its position, such as the images of a result."""
    return replace(request, messages=complete_history(request.messages))


def _started(plan: GenerationPlan, generation_prompt: str = "") -> Started:
    return Started(
        prompt_tokens=len(plan.prompt), cached_tokens=plan.cached_tokens, generation_prompt=generation_prompt
    )

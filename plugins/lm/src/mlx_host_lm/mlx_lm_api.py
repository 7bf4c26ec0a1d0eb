"""Everything this plugin uses of mlx-lm and transformers; tests/plugins/lm/test_mlx_lm_signatures.py pins it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
from jinja2 import TemplateError, TemplateSyntaxError
from mlx_host.errors import LoadError
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import CacheList, KVCache, make_prompt_cache
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import load as load_network

from mlx_host_lm.detokenizer import ByteDetokenizer, ByteTable, Detokenizer, WindowDetokenizer, byte_table
from mlx_host_lm.sampling import Array, Processor, Sampler, greedy
from mlx_host_lm.structure import Guide, Vocabulary

__all__ = ["TemplateSyntaxError"]

TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a chat template may raise over messages that it does not like."""

RESERVED_VARIABLES = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "sanitize_control_tokens",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
"""What a template is told by other means, or means something to `apply_chat_template` itself."""

Layers = list[Any]
"""mlx-lm's caches of one sequence, one per layer."""


@dataclass(frozen=True)
class Loaded:
    network: Any
    tokenizer: Tokenizer
    config: Mapping[str, Any]


def load(path: Path, *, adapter_path: Path | None, trust_remote_code: bool) -> Loaded:
    try:
        network, tokenizer, config = load_network(
            str(path),
            tokenizer_config={"trust_remote_code": trust_remote_code},
            adapter_path=None if adapter_path is None else str(adapter_path),
            return_config=True,
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        raise LoadError(f"mlx-lm cannot load {str(path)!r}: {type(error).__name__}: {error}") from error
    unbatched = sorted({type(layer).__name__ for layer in fresh_cache(network) if not hasattr(layer, "merge")})
    if unbatched:
        raise LoadError(
            f"mlx-lm cannot batch the model {str(path)!r} (its cache is a {', '.join(unbatched)}); "
            "choose a model of another architecture"
        )
    return Loaded(network, Tokenizer(tokenizer), config)


def wrap_tokenizer(tokenizer: Any, eos_ids: Iterable[int]) -> Tokenizer:
    """The Tokenizer of a tokenizer of transformers that was loaded by somebody else."""
    return Tokenizer(TokenizerWrapper(tokenizer, eos_token_ids=sorted(eos_ids)))


class Tokenizer:
    """mlx-lm's tokenizer, reduced to what serving needs."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self._inner = wrapper._tokenizer
        self._bytes = self._byte_table()
        self.eos_ids: frozenset[int] = frozenset(wrapper.eos_token_ids)
        self.has_template: bool = wrapper.has_chat_template

    @property
    def template_source(self) -> str | None:
        """The Jinja source; None if there is no template or it is a Python function."""
        source = self._inner.chat_template
        if isinstance(source, dict):
            source = source.get("tool_use", source.get("default"))
        return source if isinstance(source, str) else None

    def __len__(self) -> int:
        return len(self._inner)

    def encode(self, text: str) -> list[int]:
        """Tokens of a rendered prompt; the template has written the special ones itself."""
        return list(self._inner.encode(text, add_special_tokens=False))

    def encode_plain(self, text: str, limit: int | None) -> list[int]:
        """Tokens of a text by itself, with the special ones the tokenizer adds; `limit` cuts the text."""
        return list(self._inner.encode(text, truncation=limit is not None, max_length=limit, verbose=False))

    def encode_start(self, text: str, *, special_tokens: bool) -> list[int]:
        """Tokens of a text that is to be gone on with; a BOS that it begins with already is not doubled."""
        bos = self._inner.bos_token
        adds = special_tokens and not (bos and text.startswith(bos))
        return list(self._inner.encode(text, add_special_tokens=adds))

    def symbols(self, tokens: Sequence[int]) -> list[str]:
        """How the vocabulary writes tokens; an empty string for those that it does not have."""
        return [symbol or "" for symbol in self._inner.convert_ids_to_tokens(list(tokens))]

    def token(self, symbol: str) -> int | None:
        """The token that the vocabulary writes so."""
        token = self._inner.convert_tokens_to_ids(symbol)
        # Tokenizers give their unknown token for what they do not have.
        return int(token) if token is not None and self.symbols([token]) == [symbol] else None

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._inner.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def detokenizer(self, context: Sequence[int] = ()) -> Detokenizer:
        """Begin a text, or go on with one that ends with the tokens `context`."""
        if self._bytes:
            return ByteDetokenizer(self._bytes, starts=not context)
        return WindowDetokenizer(self.decode, context)

    def token_bytes(self, token: int) -> bytes:
        return self._bytes[token] if self._bytes else self.decode([token]).encode()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        template: str | None,
        variables: Mapping[str, Any],
    ) -> str:
        """Render the chat template, or `template` in its place; raises one of TEMPLATE_ERRORS."""
        arguments: dict[str, Any] = {
            **variables,
            "tools": list(tools) or None,
            "add_generation_prompt": add_generation_prompt,
            "tokenize": False,
        }
        if template is not None:
            arguments["chat_template"] = template
        elif self._inner.chat_template is None:
            return str(self._wrapper.apply_chat_template(list(messages), **arguments))
        # Not the wrapper's method: it sets enable_thinking where the request left it to the template.
        return str(self._inner.apply_chat_template(list(messages), **arguments))

    def vocabulary(self) -> Vocabulary | None:
        """What the tokens stand for; None if that is not known of each by itself."""
        if self._bytes is None or not self.eos_ids:
            return None
        added = self._inner.added_tokens_decoder.items()
        special = {str(token): id for id, token in added if token.special or id in self.eos_ids}
        # A copy: the tokenizer's own is at work on other threads, and reads special tokens in what is mere text.
        backend = copy.copy(self._inner.backend_tokenizer)
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True

        def cut(text: str) -> list[int]:
            return list(backend.encode(text, add_special_tokens=False).ids)

        return Vocabulary(self._bytes.tokens, special, self.eos_ids, cut, self._bytes.drop_first_space)

    def _byte_table(self) -> ByteTable | None:
        if not self._inner.is_fast:
            return None
        decoder = self._inner.backend_tokenizer.decoder
        if decoder is None:
            return None
        symbols = self._inner.convert_ids_to_tokens(list(range(len(self._inner))))
        return byte_table(
            [symbol or "" for symbol in symbols],
            set(self._inner.added_tokens_decoder),
            json.loads(decoder.__getstate__()),
        )


def has_trunk(network: Any) -> bool:
    """Whether the network is built as most are: a trunk under this name, and a head."""
    return "model" in _text(network)


def trunk(network: Any) -> Callable[[Array], Array]:
    """The network without its head: tokens (rows, tokens) to last hidden states (rows, tokens, size)."""
    inner: Callable[[Array], Array] = _text(network)["model"]
    return inner


def _text(network: Any) -> Any:
    return network.get("language_model", network)


def fresh_cache(network: Any) -> Layers:
    return list(make_prompt_cache(network))


def can_always_trim(layers: Layers) -> bool:
    """Whether tokens can be dropped from the end at any length; sliding windows and recurrent states cannot."""
    return all(
        can_always_trim(list(layer.caches)) if isinstance(layer, CacheList) else type(layer) is KVCache
        for layer in layers
    )


def trimmed(layers: Layers, tokens: int) -> Layers:
    """A copy without the last `tokens` tokens, for layers that can_always_trim; arrays are shared until written to."""
    copied = copy.deepcopy(layers)
    for layer in copied:
        layer.trim(tokens)
    return copied


def next_logprobs(network: Any, tokens: list[int], step: int) -> Iterator[Array]:
    """What a sequence's tokens say of the next one: log-probabilities (up to `step` tokens, vocabulary), in order."""
    layers = fresh_cache(network)
    for start in range(0, len(tokens), step):
        logits = network(mx.array(tokens[start : start + step])[None], cache=layers)[0].astype(mx.float32)
        yield logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def nbytes(layers: Layers) -> int:
    return sum(layer.nbytes for layer in layers)


@dataclass(frozen=True)
class Snapshot:
    """The cache of a token sequence."""

    tokens: list[int]
    layers: Layers


@dataclass(frozen=True)
class Row:
    """A sequence to be generated: `segments` of the prompt still to be read after those that `cached` holds.

    `inputs` is the Plan's.
    """

    segments: list[list[int]]
    cached: Snapshot | None
    max_tokens: int
    sampler: Sampler
    processors: list[Processor]
    guide: Guide | None = None
    inputs: Any = None


@dataclass(frozen=True, slots=True)
class Read:
    """Row `uid` has read `done` tokens of its segments."""

    uid: int
    done: int


@dataclass(frozen=True, slots=True)
class Sampled:
    """Row `uid` got a token from these log-probabilities (vocabulary,); the last has a reason and maybe a snapshot."""

    uid: int
    token: int
    logprobs: Array
    reason: Literal["stop", "length"] | None
    snapshot: Snapshot | None


class Drawn:
    """The tokens that a batch drew in a step, read while the pass that they go into is computed."""

    def __init__(self, tokens: Array) -> None:
        # Where rows have joined or left they are still to be put together, and that pass is not to come before it.
        mx.async_eval(tokens)  # type: ignore[no-untyped-call]  # mlx says so
        self._array = tokens
        self._tokens: list[int] | None = None

    def read(self, logits: Array) -> list[int]:
        """Wait for the tokens, but let the network go on to the logits that they lead to."""
        if self._tokens is None:
            mx.async_eval(logits)  # type: ignore[no-untyped-call]  # mlx says so
            self._tokens = self._array.tolist()
        return self._tokens


class Held:
    """A guide as the last logits processor of a row, which was number `index` when tokens were drawn."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._drawn: Drawn | None = None
        self._index = 0

    def follow(self, drawn: Drawn, index: int) -> None:
        self._drawn, self._index = drawn, index

    def __call__(self, _: Array, logits: Array) -> Array:
        token = None if self._drawn is None else self._drawn.read(logits)[self._index]
        return self._guide.process(token, logits)


class Rows:
    """mlx-lm's BatchGenerator: rows that join and leave at any step."""

    def __init__(self, network: Any, *, stop_tokens: Iterable[int], size: int, prefill_step_size: int) -> None:
        self._generator = BatchGenerator(
            network,
            stop_tokens=[[token] for token in sorted(stop_tokens)],
            sampler=greedy,
            completion_batch_size=size,
            prefill_step_size=prefill_step_size,
        )

    def add(self, row: Row) -> int:
        cached = row.cached
        (uid,) = self._generator.insert_segments(
            [row.segments],
            max_tokens=[row.max_tokens],
            caches=[None if cached is None else cached.layers],
            all_tokens=[[] if cached is None else list(cached.tokens)],
            samplers=[row.sampler],
            logits_processors=[row.processors if row.guide is None else [*row.processors, Held(row.guide)]],
        )
        return int(uid)

    def remove(self, uids: Iterable[int]) -> None:
        with mx.stream(self._generator.stream):
            self._generator.remove(list(uids))

    def step(self) -> tuple[list[Read], list[Sampled]]:
        """Decode one token of every row that has read its prompt, and read the next chunk for those that have not."""
        reads, tokens = self._generator.next()
        self._tell_guides()
        sampled = [
            Sampled(
                answer.uid,
                answer.token,
                answer.logprobs,
                answer.finish_reason,
                None if answer.prompt_cache is None else Snapshot(answer.all_tokens, answer.prompt_cache),
            )
            for answer in tokens
        ]
        return [Read(read.uid, read.progress[0]) for read in reads], sampled

    def snapshot(self, uid: int) -> Snapshot:
        with mx.stream(self._generator.stream):
            layers, tokens = self._generator.extract_cache([uid])[uid]
            return Snapshot(list(tokens), layers)

    def materialise(self, snapshot: Snapshot) -> None:
        """Compute the snapshot's own arrays, so that it does not keep the batch it was cut from in memory."""
        with mx.stream(self._generator.stream):
            mx.async_eval([layer.state for layer in snapshot.layers])  # type: ignore[no-untyped-call]

    @property
    def nbytes(self) -> int:
        return int(self._generator.prompt_cache_nbytes)

    def close(self) -> None:
        self._generator.close()

    def _tell_guides(self) -> None:
        running = self._generator._generation_batch
        chains = enumerate(running.logits_processors)
        held = [(index, each) for index, chain in chains for each in chain if isinstance(each, Held)]
        if held:
            drawn = Drawn(running._next_tokens)
            for index, each in held:
                each.follow(drawn, index)

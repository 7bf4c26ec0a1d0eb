"""Structured output: compiles grammars with llguidance and masks the tokens that they do not allow.

A model has one GrammarCompiler, a constraint becomes a CompiledGrammar, and each constrained sequence has a
GrammarMatcher. All calls into llguidance are here; llguidance_grammar.py writes its grammar syntax.

Grammars are compiled on a separate thread and matched on the model's thread:

| state       | event                                                | next                                           |
| ----------- | ---------------------------------------------------- | ---------------------------------------------- |
| compiling   | turn of the request                                  | yield, the first time after FIRST_WAIT seconds |
| compiling   | request closed                                       | cancelled                                      |
| compiling   | compiled, or InvalidRequestError                     | constrained, or the request fails              |
| constrained | logits of step N; the token of step N-1 is read now  | mask of step N, computed during forward pass N |
| constrained | llguidance gives up, or no token is allowed          | dead end: `error` is set, only EOS is allowed  |
| dead end    | token                                                | the request fails, unless it was complete      |
| constrained, dead end | sequence ends                              | done                                           |

A CompiledGrammar retires after MAX_GRAMMAR_TOKENS tokens or a dead end: running matchers keep it, new requests compile
it again.
"""

from __future__ import annotations

import json
import pickle
import re
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from typing import Any

import mlx.core as mx
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Constraint, Grammar, JsonValue, LarkGrammar, Pattern, TextThrough, chain, iter_leaves

from mlx_host_text.background import result_of
from mlx_host_text.llguidance_grammar import to_llguidance
from mlx_host_text.sampling import Array
from mlx_host_text.schema_narrowing import find_keyword, narrow_grammar
from mlx_host_text.tokenizer import Vocabulary

MAX_COMPILED_GRAMMARS = 32
# All matchers of a grammar share its lexer, which adds states of 1 to 2 kB each and never drops any. A grammar retires
# before a normal one comes near the limit, so that no request fails because of the states of others.
MAX_LEXER_STATES = 50_000
MAX_GRAMMAR_TOKENS = 10_000
# llguidance resolves rules recursively, 3 kB of stack each in a Lark grammar and more in a schema; a stack overflow
# ends the process. No grammar of MAX_GRAMMAR_LENGTH characters needs this much.
STACK_BYTES = 512 * 2**20
MAX_GRAMMAR_LENGTH = 2**20
# Bytes of forced text that are tokenized at a time.
FORCED_TEXT_BYTES = 64
# Tokens that are tried when a grammar is compiled, because llguidance builds its lexer lazily.
LOOKAHEAD = 4
MAX_CHECKED_PARTS = 100
# A step within the limits takes at most 0.2 s.
STEP_MAX_ITEMS = 20_000
MAX_ERROR_LENGTH = 300

_NAMES = {JsonValue: "JSON schema", Pattern: "regular expression", LarkGrammar: "grammar"}


class GrammarCompiler:
    """Compiles constraints for one model on a separate thread; the most recent ones are cached."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._executor = _deep_stack_executor()
        self._compiled: dict[bytes, CompiledGrammar] = {}

    def compile(
        self, constraint: Constraint, generation_prompt: str, *, starts: bool = True
    ) -> Generator[None, None, CompiledGrammar]:
        """Yield until the constraint is compiled; `starts` is False if the output continues a text.

        InvalidRequestError names the field of the request whose part of the grammar is not supported.
        """
        return (yield from result_of(self._executor.submit(self._get, constraint, generation_prompt, starts)))

    def source(self, constraint: Constraint, generation_prompt: str) -> Generator[None, None, str]:
        """Return the grammar of the constraint in llguidance's syntax, yielding None until it is ready."""
        return (yield from result_of(self._executor.submit(self._source, constraint, generation_prompt)))

    def _source(self, constraint: Constraint, generation_prompt: str) -> str:
        grammar = narrow_grammar(constraint.grammar(generation_prompt), self._exhausts)
        grammars = json.loads(to_llguidance(grammar, self._vocabulary.special))["grammars"]
        return "\n".join(f"// {each['name']}\n{each['lark_grammar']}" for each in grammars)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        wrapper = TokenizerWrapper(_GuidanceTokenizer(self._vocabulary))
        return LLTokenizer(wrapper, eos_token=sorted(self._vocabulary.eos_ids), slices=LLTokenizer.json_slices())

    @cached_property
    def _starting_with_space(self) -> int:
        """The tokens that begin with a space, as a bit mask."""
        return _bit_mask(number for number, text in enumerate(self._vocabulary.tokens) if text.startswith(b" "))

    def _get(self, constraint: Constraint, generation_prompt: str, starts: bool) -> CompiledGrammar:
        """A cached or new grammar, built on this thread because that may take as long as compiling it."""
        key = sha256(pickle.dumps((constraint, generation_prompt, starts))).digest()
        compiled = self._compiled.pop(key, None)
        if compiled is None or compiled.retired:
            compiled = self._compile(narrow_grammar(constraint.grammar(generation_prompt), self._exhausts), starts)
        self._compiled[key] = compiled
        if len(self._compiled) > MAX_COMPILED_GRAMMARS:
            del self._compiled[next(iter(self._compiled))]
        return compiled

    def _compile(self, grammar: Grammar, starts: bool) -> CompiledGrammar:
        self._check_parts(grammar)
        matcher = self._matcher(grammar)
        first = self._first_mask(grammar, matcher)
        if error := self._error_ahead(matcher, first):
            raise self._rejection(grammar, error)
        if not (starts and self._vocabulary.drop_first_space):
            return CompiledGrammar(self._vocabulary, matcher, matcher, first)
        # The displayed output lacks the space that the generated output may begin with.
        spaced = self._matcher(chain(" ", grammar))
        both = _number(self._first_mask(grammar, spaced)) | (_number(first) & ~self._starting_with_space)
        return CompiledGrammar(self._vocabulary, matcher, spaced, both.to_bytes(len(first), "little"))

    def _matcher(self, grammar: Grammar) -> LLMatcher:
        limits = LLParserLimits(max_lexer_states=MAX_LEXER_STATES, step_max_items=STEP_MAX_ITEMS, verbose_errors=False)
        text = to_llguidance(grammar, self._vocabulary.special)
        if len(text) > MAX_GRAMMAR_LENGTH:
            raise InvalidRequestError(
                f"This request's output constraints are too large: the grammar has {len(text)} characters; the "
                f"maximum is {MAX_GRAMMAR_LENGTH}. Send fewer or smaller schemas and tools."
            )
        return LLMatcher(self._tokenizer, text, log_level=0, limits=limits)

    def _exhausts(self, names: Iterable[str], regex: str) -> bool:
        """Whether no text but `names` matches a regex, or llguidance cannot tell."""
        matcher = self._matcher(TextThrough(("\n",), (regex,), tuple(map(re.escape, names))))
        if matcher.is_error():
            return False
        matcher.compute_bitmask()
        return bool(matcher.is_error())

    def _check_parts(self, grammar: Grammar) -> None:
        """Reject regexes and grammars of the request that fail within LOOKAHEAD tokens, wherever they are reached."""
        parts: dict[str, JsonValue | Pattern | LarkGrammar] = {}
        for leaf in iter_leaves(grammar):
            if isinstance(leaf, JsonValue):
                parts.update(_counting_strings(leaf.schema, leaf.param))
            elif isinstance(leaf, Pattern | LarkGrammar) and leaf.param is not None:
                parts[leaf.regex if isinstance(leaf, Pattern) else leaf.source] = leaf
        for text in sorted(parts, key=len, reverse=True)[:MAX_CHECKED_PARTS]:
            if error := self._error_of(parts[text]):
                raise self._rejection(parts[text], error)

    def _error_of(self, grammar: Grammar) -> str | None:
        """The error of a grammar by itself: at once or within LOOKAHEAD tokens."""
        matcher = self._matcher(grammar)
        mask = b"" if matcher.is_error() else matcher.compute_bitmask()
        return matcher.get_error() if matcher.is_error() else self._error_ahead(matcher, mask)

    def _error_ahead(self, matcher: LLMatcher, first: bytes) -> str | None:
        """The error within LOOKAHEAD tokens that the mask `first` allows; None if there is none."""
        ends = sum(1 << token for token in self._vocabulary.eos_ids)
        for choose in (_lowest_bit, _highest_bit):
            ahead, mask = matcher.deep_copy(), _number(first) & ~ends
            for _ in range(LOOKAHEAD):
                if ahead.is_error():
                    return str(ahead.get_error())
                if not mask or not ahead.consume_token(choose(mask)):
                    break
                mask = _number(ahead.compute_bitmask()) & ~ends
            if ahead.is_error():
                return str(ahead.get_error())
        return None

    def _first_mask(self, grammar: Grammar, matcher: LLMatcher) -> bytes:
        mask = b"" if matcher.is_error() else matcher.compute_bitmask()
        if matcher.is_error():
            raise self._rejection(grammar, matcher.get_error())
        if not mask.strip(b"\0"):
            raise self._rejection(grammar, "no output satisfies it")
        return mask

    def _rejection(self, grammar: Grammar, error: str) -> InvalidRequestError:
        """Name the part of the grammar that is not supported by itself, or else the whole grammar."""
        for leaf in iter_leaves(grammar):
            if not isinstance(leaf, JsonValue | Pattern | LarkGrammar) or leaf.param is None:
                continue
            if alone := self._error_of(leaf):
                reason = readable_error(alone, leaf.schema if isinstance(leaf, JsonValue) else None)
                return InvalidRequestError(
                    f"{leaf.param}: unsupported {_NAMES[type(leaf)]}: {reason}.", param=leaf.param
                )
        return InvalidRequestError(f"This request's output constraints are not supported: {readable_error(error)}.")


def _deep_stack_executor() -> ThreadPoolExecutor:
    """A thread with a stack for deep recursion."""
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="grammars")
    default = threading.stack_size(STACK_BYTES)
    try:
        executor.submit(int)  # Starts the thread.
    finally:
        threading.stack_size(default)
    return executor


class CompiledGrammar:
    """A compiled grammar: the mask of allowed first tokens, and matchers for what follows them.

    `spaced` matches output whose first token begins with a space.
    """

    def __init__(self, vocabulary: Vocabulary, plain: LLMatcher, spaced: LLMatcher, first: bytes) -> None:
        self.vocabulary = vocabulary
        self.first = first
        self.retired = False
        self._plain = plain
        self._spaced = spaced
        self._tokens = 0

    def matcher(self) -> GrammarMatcher:
        """Constrain one sequence."""
        return GrammarMatcher(self)

    def begin(self, token: int) -> LLMatcher:
        matcher = self._spaced if self.vocabulary.tokens[token].startswith(b" ") else self._plain
        return matcher.deep_copy()

    def next_mask(self, matcher: LLMatcher, token: int) -> bytes:
        """The mask of tokens allowed after `token`; GrammarDeadEndError if llguidance gives up."""
        self._tokens += 1
        mask = matcher.compute_bitmask() if matcher.consume_token(token) else b""
        dead_end = matcher.is_error() or not mask.strip(b"\0")
        self.retired |= dead_end or self._tokens >= MAX_GRAMMAR_TOKENS
        if dead_end:
            raise GrammarDeadEndError(readable_error(matcher.get_error()) or "no token is allowed next")
        return mask


class GrammarDeadEndError(Exception):
    """The output cannot continue; the message contains the reason."""


class GrammarMatcher:
    """Masks the logits of one sequence, as its last logits processor.

    End tokens are allowed where the grammar is satisfied, and nothing else where nothing else can follow.
    `token_count` tokens have been matched. After a dead end, `error` is set and only end tokens are allowed; the output
    from there on is invalid.
    """

    def __init__(self, grammar: CompiledGrammar) -> None:
        self.error: InvalidRequestError | None = None
        self.token_count = 0
        self._grammar = grammar
        self._matcher: LLMatcher | None = None
        # The penalties of eight tokens for each byte of a mask: several times faster than shifting bits.
        bits = (mx.arange(256)[:, None] >> mx.arange(8)) & 1
        self._byte_penalties = mx.where(bits == 1, 0.0, -mx.inf)

    def process(self, token: int | None, logits: Array, forced: int | None = None) -> Array:
        """Mask logits (1, vocabulary) of all tokens that may not follow `token`, the last of the output if any.

        If the grammar allows the token `forced`, all others are masked.
        """
        mask = self._grammar.first if token is None else self._mask_after(token)
        if forced is not None and mask[forced // 8 : forced // 8 + 1] and mask[forced // 8] >> forced % 8 & 1:
            mask = _bit_mask([forced]).to_bytes(len(mask), "little")
        return logits + self._penalties(mask, logits.shape[-1]).astype(logits.dtype)

    def _penalties(self, mask: bytes, width: int) -> Array:
        """0 for the tokens of a mask and -inf for all others (1, width)."""
        indices = mx.array(memoryview(mask))  # type: ignore[arg-type]  # buffers are accepted
        penalties = self._byte_penalties[indices].reshape(1, -1)[:, :width]
        missing = width - penalties.shape[-1]
        return mx.pad(penalties, [(0, 0), (0, missing)], constant_values=-mx.inf) if missing else penalties

    def _mask_after(self, token: int) -> bytes:
        if self._matcher is None:
            self._matcher = self._grammar.begin(token)
        self.token_count += self.error is None
        try:
            return self._grammar.next_mask(self._matcher, token)
        except GrammarDeadEndError as error:
            self.error = InvalidRequestError(f"This request's output constraints are too complex to continue: {error}.")
            return _bit_mask(self._grammar.vocabulary.eos_ids).to_bytes(len(self._grammar.first), "little")


class _GuidanceTokenizer:
    """The vocabulary in the form that llguidance expects.

    llguidance tokenizes forced text with it and then allows only that tokenization: models know texts by their usual
    tokens, and small models lose coherence after unusual ones.
    """

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = min(vocabulary.eos_ids)
        self.tokens = list(vocabulary.tokens)
        self.special_token_ids = sorted({*vocabulary.special.values(), *vocabulary.eos_ids})
        self._encode = vocabulary.encode
        special = set(self.special_token_ids)
        self._ids = {text: number for number, text in enumerate(self.tokens) if text and number not in special}

    def __call__(self, text: bytes) -> list[int]:
        # The next token depends on this much; llguidance calls again in every step, however much text is forced.
        head = text[:FORCED_TEXT_BYTES].decode(errors="ignore")
        tokens = list(self._encode(head))
        encoded = b"".join(self.tokens[token] for token in tokens)
        return tokens if encoded and text.startswith(encoded) else list(self._longest_tokens(head.encode()))

    def _longest_tokens(self, text: bytes) -> Iterator[int]:
        """Greedy tokenization, for tokenizers that add characters to the text."""
        while text:
            length = next((n for n in range(len(text), 0, -1) if text[:n] in self._ids), 0)
            if not length:
                return
            yield self._ids[text[:length]]
            text = text[length:]


def readable_error(error: str, schema: Any = None) -> str:
    """An llguidance error in one line, without the internal grammar that it quotes."""
    lines = error.splitlines() or [""]
    message = re.sub(r"^(at )?\d+\(\d+\): ", "", lines[0]).removeprefix("failed to compile JSON schema: ")
    message = message.partition(". Enable")[0].rstrip(".")
    if message.endswith("regex parse error:"):
        found = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        message = f"the pattern {_shortened(lines[1].strip())}: {' '.join(found)}"
    message = message.replace("lexer error: too many expressions constructed", "it is too complex; count less")
    if keys := re.fullmatch(r"Unimplemented keys: \[(.*)\]", message):
        keywords = re.findall(r'"([^"]+)"', keys[1])
        places = [f"{keyword!r} at {find_keyword(schema, keyword) or '#'}" for keyword in keywords]
        message = f"keyword {', '.join(places)}"
    return _shortened(message, MAX_ERROR_LENGTH)


def _shortened(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def _bit_mask(tokens: Iterable[int]) -> int:
    chosen = set(tokens)
    return int("".join("1" if number in chosen else "0" for number in range(max(chosen, default=0), -1, -1)), 2)


def _lowest_bit(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _highest_bit(mask: int) -> int:
    return mask.bit_length() - 1


def _counting_strings(schema: Any, param: str | None) -> Iterator[tuple[str, JsonValue]]:
    """The patterns in a schema that count, such as `[a-z]{0,50}`: only these exhaust the lexer."""
    if isinstance(schema, Mapping):
        names = schema.get("patternProperties")
        for pattern in [schema.get("pattern"), *(names if isinstance(names, Mapping) else ())]:
            if isinstance(pattern, str) and "{" in pattern:
                yield pattern, JsonValue({"type": "string", "pattern": pattern}, param)
    if isinstance(schema, Mapping | list):
        for part in schema.values() if isinstance(schema, Mapping) else schema:
            yield from _counting_strings(part, param)


def _number(mask: bytes) -> int:
    return int.from_bytes(mask, "little")

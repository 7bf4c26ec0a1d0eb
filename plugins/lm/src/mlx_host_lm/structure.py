"""Answers held to a grammar by token masks; all that this plugin uses of llguidance.

A model has one Structure, a grammar becomes a Rule, and each answer that obeys it has a Guide, whatever batch its row
is in. No network, batch or tokenizer class is known here.
"""

from __future__ import annotations

import pickle
import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import mlx.core as mx
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Constraint, Grammar, JsonValue, LarkGrammar, Pattern, chain, iter_leaves, to_llguidance

from mlx_host_lm.sampling import Array
from mlx_host_lm.schemas import kept, place

# So long the model waits for a grammar before it goes on with other requests; most are compiled by then.
PATIENCE = 0.005
KEPT_RULES = 32
# All answers of a rule share its lexer, which learns states as it goes, 1 to 2 kB each, and forgets none. A rule makes
# way for a new one before honest grammars come near the limit, so that no answer fails for what others have learnt.
MAX_LEXER_STATES = 50_000
RULE_TOKENS = 10_000
# llguidance follows rules that name rules by recursion, 3 kB of stack each in a Lark grammar and more in a schema;
# where the stack ends, so does the process. No grammar of this length comes so far, whatever a client writes.
STACK_BYTES = 512 * 2**20
LONGEST_GRAMMAR = 2**20
# So many bytes of what is certain are looked at.
FORESIGHT = 64
# A step within the limits takes 0.2 s at worst.
STEP_MAX_ITEMS = 20_000

_WHAT = {JsonValue: "the JSON schema", Pattern: "the regular expression", LarkGrammar: "the grammar"}


@dataclass(frozen=True)
class Vocabulary:
    """What a model's tokens stand for.

    `tokens` are their bytes, by id. `special` are those that no text becomes, by how they are written. `ends` end an
    answer. `drop_first_space` says that a space at the beginning of an answer does not show. `cut` is how the tokenizer
    cuts a text that holds no special tokens.
    """

    tokens: Sequence[bytes]
    special: Mapping[str, int]
    ends: frozenset[int]
    cut: Callable[[str], Sequence[int]]
    drop_first_space: bool = False


class Structure:
    """Makes rules of constraints for one model, on a thread of its own; the last ones are kept."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._worker = _worker()
        self._rules: dict[bytes, Rule] = {}

    def compile(
        self, constraint: Constraint, generation_prompt: str, *, starts: bool = True
    ) -> Generator[None, None, Rule]:
        """Give way until the constraint is compiled; `starts` unless the answer goes on with a text.

        InvalidRequestError names the field of the request whose part of the grammar cannot be kept.
        """
        future = self._worker.submit(self._find, constraint, generation_prompt, starts)
        try:
            while not wait([future], timeout=PATIENCE).done:
                yield
        finally:
            future.cancel()
        return future.result()

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        wrapper = TokenizerWrapper(_Tokens(self._vocabulary))
        return LLTokenizer(wrapper, eos_token=sorted(self._vocabulary.ends), slices=LLTokenizer.json_slices())

    @cached_property
    def _spaced(self) -> int:
        """The bits of the tokens that begin with a space."""
        return _bits(id for id, text in enumerate(self._vocabulary.tokens) if text.startswith(b" "))

    def _find(self, constraint: Constraint, generation_prompt: str, starts: bool) -> Rule:
        """The rule that is kept, or a new one; what a constraint says may take as long to write down as to compile."""
        key = sha256(pickle.dumps((constraint, generation_prompt, starts))).digest()
        rule = self._rules.pop(key, None)
        if rule is None or rule.spent:
            rule = self._compile(kept(constraint.grammar(generation_prompt)), starts)
        self._rules[key] = rule
        if len(self._rules) > KEPT_RULES:
            del self._rules[next(iter(self._rules))]
        return rule

    def _compile(self, grammar: Grammar, starts: bool) -> Rule:
        matcher = self._matcher(grammar)
        if matcher.is_error():
            raise self._refusal(grammar, matcher.get_error())
        first = self._first(grammar, matcher)
        if not (starts and self._vocabulary.drop_first_space):
            return Rule(self._vocabulary, matcher, matcher, first)
        # What shows is the answer without the space it begins with, if it does.
        spaced = self._matcher(chain(" ", grammar))
        both = _number(self._first(grammar, spaced)) | (_number(first) & ~self._spaced)
        return Rule(self._vocabulary, matcher, spaced, both.to_bytes(len(first), "little"))

    def _matcher(self, grammar: Grammar) -> LLMatcher:
        limits = LLParserLimits(max_lexer_states=MAX_LEXER_STATES, step_max_items=STEP_MAX_ITEMS, verbose_errors=False)
        text = to_llguidance(grammar, self._vocabulary.special)
        if len(text) > LONGEST_GRAMMAR:
            raise InvalidRequestError(
                f"What is asked of the answer's form is too long: {len(text)} characters of grammar, {LONGEST_GRAMMAR} "
                "are taken. Ask for less in one request."
            )
        return LLMatcher(self._tokenizer, text, log_level=0, limits=limits)

    def _first(self, grammar: Grammar, matcher: LLMatcher) -> bytes:
        mask = matcher.compute_bitmask()
        if matcher.is_error():
            raise self._refusal(grammar, matcher.get_error())
        if not mask.strip(b"\0"):
            raise self._refusal(grammar, "no answer is possible")
        return mask

    def _refusal(self, grammar: Grammar, error: str) -> InvalidRequestError:
        """Blame the part that cannot be kept even by itself, or else the whole."""
        for leaf in iter_leaves(grammar):
            if isinstance(leaf, JsonValue | Pattern | LarkGrammar) and leaf.param is not None:
                alone = self._matcher(leaf)
                if alone.is_error() or (alone.compute_bitmask() and alone.is_error()):
                    reason = readable(alone.get_error(), leaf.schema if isinstance(leaf, JsonValue) else None)
                    return InvalidRequestError(
                        f"{leaf.param}: {_WHAT[type(leaf)]} cannot be kept: {reason}", param=leaf.param
                    )
        return InvalidRequestError(f"The form asked for cannot be kept: {readable(error)}")


def _worker() -> ThreadPoolExecutor:
    """A thread with room for deep recursion."""
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="grammars")
    usual = threading.stack_size(STACK_BYTES)
    try:
        worker.submit(int)  # Starts the thread.
    finally:
        threading.stack_size(usual)
    return worker


class Rule:
    """A compiled grammar: the tokens that an answer may begin with, and matchers for what follows them.

    `spaced` is for an answer whose first token begins with a space. `spent` rules serve the answers they have.
    """

    def __init__(self, vocabulary: Vocabulary, plain: LLMatcher, spaced: LLMatcher, first: bytes) -> None:
        self.vocabulary = vocabulary
        self.first = first
        self.spent = False
        self._plain = plain
        self._spaced = spaced
        self._tokens = 0

    def guide(self) -> Guide:
        """Hold one answer to the grammar."""
        return Guide(self)

    def begin(self, token: int) -> LLMatcher:
        matcher = self._spaced if self.vocabulary.tokens[token].startswith(b" ") else self._plain
        return matcher.deep_copy()

    def next_mask(self, matcher: LLMatcher, token: int) -> bytes:
        """The tokens that may follow `token`; raises Stuck if llguidance gives up."""
        self._tokens += 1
        mask = matcher.compute_bitmask() if matcher.consume_token(token) else b""
        stuck = matcher.is_error() or not mask.strip(b"\0")
        self.spent |= stuck or self._tokens >= RULE_TOKENS
        if stuck:
            raise Stuck(readable(matcher.get_error()) or "no token can come next")
        return mask


class Stuck(Exception):
    """An answer cannot go on; the text says why."""


class Guide:
    """Holds one row to a grammar, after whatever else changes its logits.

    Ends of the answer are allowed where the grammar is satisfied, and nothing else where nothing else can come. `read`
    tokens have been taken into account. If llguidance gives up, `error` says so and the row may only end; what follows
    is no answer.
    """

    def __init__(self, rule: Rule) -> None:
        self.error: InvalidRequestError | None = None
        self.read = 0
        self._rule = rule
        self._matcher: LLMatcher | None = None
        # What each byte of a mask means for the eight tokens it is about; several times faster than to shift bits.
        bits = (mx.arange(256)[:, None] >> mx.arange(8)) & 1
        self._eight = mx.where(bits == 1, 0.0, -mx.inf)

    def process(self, token: int | None, logits: Array) -> Array:
        """Forbid all that may not follow `token`, the answer's last, or None where it begins (1, vocabulary)."""
        mask = self._rule.first if token is None else self._after(token)
        return logits + self._penalties(mask, logits.shape[-1]).astype(logits.dtype)

    def _penalties(self, mask: bytes, width: int) -> Array:
        """0 for the tokens of a mask and -inf for all others (1, width)."""
        eights = mx.array(memoryview(mask))  # type: ignore[arg-type]  # buffers do, too
        penalties = self._eight[eights].reshape(1, -1)[:, :width]
        missing = width - penalties.shape[-1]
        return mx.pad(penalties, [(0, 0), (0, missing)], constant_values=-mx.inf) if missing else penalties

    def _after(self, token: int) -> bytes:
        if self._matcher is None:
            self._matcher = self._rule.begin(token)
        self.read += self.error is None
        try:
            return self._rule.next_mask(self._matcher, token)
        except Stuck as error:
            self.error = InvalidRequestError(f"The form asked for is too complex to go on with the answer: {error}")
            return _bits(self._rule.vocabulary.ends).to_bytes(len(self._rule.first), "little")


class _Tokens:
    """A vocabulary as llguidance wants it.

    It is called for text that is certain, of which the model may write but this cut: models know texts by their usual
    tokens, and a small one that is led through others soon talks nonsense.
    """

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = min(vocabulary.ends)
        self.tokens = list(vocabulary.tokens)
        self.special_token_ids = sorted({*vocabulary.special.values(), *vocabulary.ends})
        self._cut = vocabulary.cut
        special = set(self.special_token_ids)
        self._ids = {text: id for id, text in enumerate(self.tokens) if text and id not in special}

    def __call__(self, text: bytes) -> list[int]:
        # As much as decides the next token; it is asked again in every step, however much is certain.
        head = text[:FORESIGHT].decode(errors="ignore")
        tokens = list(self._cut(head))
        written = b"".join(self.tokens[token] for token in tokens)
        return tokens if written and text.startswith(written) else list(self._longest(head.encode()))

    def _longest(self, text: bytes) -> Iterator[int]:
        """A cut for tokenizers that add to a text what was not in it."""
        while text:
            length = next((n for n in range(len(text), 0, -1) if text[:n] in self._ids), 0)
            if not length:
                return
            yield self._ids[text[:length]]
            text = text[length:]


def readable(error: str, schema: Any = None) -> str:
    """What llguidance means, in one line; it quotes the grammar, which the client did not write so."""
    lines = error.splitlines() or [""]
    said = re.sub(r"^(at )?\d+\(\d+\): ", "", lines[0]).removeprefix("failed to compile JSON schema: ")
    said = said.partition(". Enable")[0]
    if said.endswith("regex parse error:"):
        found = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        said = f"the pattern {_short(lines[1].strip())}: {' '.join(found)}"
    if keys := re.fullmatch(r"Unimplemented keys: \[(.*)\]", said):
        names = re.findall(r'"([^"]+)"', keys[1])
        said = "it cannot be held to " + ", ".join(f"{name} (at {place(schema, name) or '#'})" for name in names)
    return _short(said, 300)


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _bits(tokens: Iterable[int]) -> int:
    chosen = set(tokens)
    return int("".join("1" if id in chosen else "0" for id in range(max(chosen, default=0), -1, -1)), 2)


def _number(mask: bytes) -> int:
    return int.from_bytes(mask, "little")

"""Random texts of a grammar, sampled token by token with llguidance."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from mlx_host.grammar import FreeText, Grammar, TextThrough, iter_leaves
from mlx_host_text.llguidance_grammar import to_llguidance

# Fragments that are likely to break the parsing of values.
FRAGMENTS = (
    *("a", "Z", "x", "7", "-"),
    *(".", " ", "\n", "\n\n", "\t", "é", "🙂", "'", "\\", "\\n", "<", ">", "</", "|", "{", "}"),
    *("[", "]", ":", ",", "`", "null", "true", "3.5", "{}", "[1]", "&quot;", "call:", "<｜", "007"),
)
MAX_TOKENS = 3000


class _Bytes:
    """A byte tokenizer with special tokens."""

    eos_token_id = 256
    bos_token_id = None

    def __init__(self, special: Iterable[str]) -> None:
        self.tokens = [bytes([n]) for n in range(256)] + [b"<eos>", *(text.encode() for text in special)]
        self.special_token_ids = list(range(256, len(self.tokens)))

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


_END = 1 << _Bytes.eos_token_id


@dataclass
class Vocabulary:
    """Bytes and `special` tokens."""

    special: tuple[str, ...] = ()
    ids: Mapping[str, int] = field(init=False)
    tokenizer: LLTokenizer = field(init=False)

    def __post_init__(self) -> None:
        wrapped = _Bytes(self.special)
        self._bytes = wrapped.tokens
        self.ids = {text: 257 + n for n, text in enumerate(self.special)}
        self.tokenizer = LLTokenizer(TokenizerWrapper(wrapped))

    def matcher(self, grammar: Grammar) -> LLMatcher:
        matcher = LLMatcher(self.tokenizer, to_llguidance(grammar, self.ids))
        assert not matcher.is_error(), matcher.get_error()
        return matcher

    def tokens(self, text: str) -> list[int]:
        """Tokenize a text; the longest special tokens win."""
        found: list[int] = []
        while text:
            token = max((one for one in self.special if text.startswith(one)), key=len, default="")
            found += [self.ids[token]] if token else text[0].encode()
            text = text[len(token) or 1 :]
        return found

    def text(self, tokens: Iterable[int]) -> str:
        return b"".join(self._bytes[token] for token in tokens).decode()

    def admits(self, grammar: Grammar, text: str) -> bool:
        """Return whether the grammar matches the whole text."""
        matcher = self.matcher(grammar)
        tokens = self.tokens(text)
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

    def matched_tokens(self, grammar: Grammar, text: str) -> int:
        """Return how many tokens of a text the grammar accepts."""
        return self.matcher(grammar).try_consume_tokens(self.tokens(text))

    def walk(self, grammar: Grammar, seed: int) -> str:
        """Return a random text of a grammar, usually a short one."""
        return _Walk(self, grammar, random.Random(seed)).text()


class _Walk:
    def __init__(self, vocabulary: Vocabulary, grammar: Grammar, chance: random.Random) -> None:
        self._vocabulary = vocabulary
        self._matcher = vocabulary.matcher(grammar)
        self._chance = chance
        ends = {end for leaf in iter_leaves(grammar) if isinstance(leaf, TextThrough) for end in leaf.ends}
        ends |= {end for leaf in iter_leaves(grammar) if isinstance(leaf, FreeText) for end in leaf.excluding}
        self._ends = [vocabulary.tokens(end) for end in sorted(ends)]
        self._pieces = [vocabulary.tokens(piece) for piece in FRAGMENTS]
        # The mask has whole words, so some of its bits have no token.
        self._known = (1 << 257 + len(vocabulary.special)) - 1
        self._written: list[int] = []

    def text(self) -> str:
        while not self._matcher.is_stopped() and (chosen := self._next()):
            assert self._matcher.consume_tokens(chosen), self._matcher.get_error()
            self._written += chosen
            assert len(self._written) < MAX_TOKENS, self._vocabulary.text(self._written)
        return self._vocabulary.text(self._written)

    def _next(self) -> list[int]:
        """Return the next tokens; empty at the end."""
        if forced := self._matcher.compute_ff_tokens():
            return forced
        mask = int.from_bytes(self._matcher.compute_bitmask(), "little") & self._known
        assert mask, f"nothing may follow {self._vocabulary.text(self._written)!r}"
        long = len(self._written) > MAX_TOKENS // 4
        if mask & _END:
            if long or mask == _END or self._chance.random() < 0.4:
                return []
            mask ^= _END
        if mask.bit_count() > 16:
            for known in self._tries(long):
                if self._matcher.validate_tokens(known) == len(known):
                    return known
        allowed = [n for n in range(mask.bit_length()) if mask >> n & 1]
        for closing in (b"}])/", b'",:') if long else ():
            if found := [n for n in allowed if n < 256 and n in closing]:
                return [self._chance.choice(found)]
        return [self._chance.choice([n for n in allowed if n < 128 or n > 256] or allowed)]

    def _tries(self, long: bool) -> list[list[int]]:
        ends = self._chance.sample(self._ends, len(self._ends))
        pieces = self._chance.sample(self._pieces, 4)
        if long:
            return [*ends[: self._chance.randrange(len(ends) + 1)], [self._chance.choice(b'""x\n')], *pieces]
        return ends + pieces if self._chance.random() < 0.3 else pieces

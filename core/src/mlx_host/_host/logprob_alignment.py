"""Assigns the log-probabilities of tokens to the parts that a parser extracts from their text."""

from __future__ import annotations

from collections import deque

from mlx_host.events import Logprobs, TextDelta

Piece = tuple[str, tuple[Logprobs, ...]]


class LogprobAligner:
    """Splits the content of one choice at its tokens, and drops the log-probabilities of everything else.

    Parsers are lossless: the sources of the parts, joined, are the text. A token of which only a part is content, such
    as `>Yes`, belongs to the content. A token without text belongs to the text after it.
    """

    def __init__(self) -> None:
        # Positions in the text of the choice: the end of what was fed, and of what was consumed.
        self._fed = self._taken = 0
        self._tokens: deque[tuple[int, int, tuple[Logprobs, ...]]] = deque()

    def feed(self, text: TextDelta) -> None:
        """Add generated text."""
        start, self._fed = self._fed, self._fed + len(text.text)
        if text.logprobs:
            self._tokens.append((start, self._fed, text.logprobs))

    def skip(self, length: int) -> None:
        """Consume text that is not content, and drop its tokens."""
        self._taken += length
        while self._tokens and self._tokens[0][0] < self._taken and self._tokens[0][1] <= self._taken:
            self._tokens.popleft()

    def take(self, text: str) -> list[Piece]:
        """Consume content; return it split at its tokens, with their log-probabilities."""
        start, self._taken = self._taken, self._taken + len(text)
        begins: list[tuple[int, tuple[Logprobs, ...]]] = []
        while self._tokens and self._tokens[0][0] < self._taken:
            at, _, logprobs = self._tokens.popleft()
            begins.append((max(0, at - start), logprobs))
        if not begins:
            return [(text, ())]
        ends = [at for at, _ in begins[1:]] + [len(text)]
        head: list[Piece] = [(text[: begins[0][0]], ())] if begins[0][0] else []
        return head + [(text[at:end], logprobs) for (at, logprobs), end in zip(begins, ends, strict=True)]

    def take_rest(self) -> tuple[Logprobs, ...]:
        """Return the log-probabilities of the remaining tokens, which have no text."""
        rest = tuple(each for _, _, logprobs in self._tokens for each in logprobs)
        self._tokens.clear()
        return rest

"""Limits the reasoning of one sequence: after a number of tokens, the text that closes the reasoning is forced.

| state   | event                                        | next                                                        |
| ------- | -------------------------------------------- | ----------------------------------------------------------- |
| outside | an opening string is complete                | inside; closing if no tokens are left                       |
| inside  | token without a complete closing string      | inside, with one token less; closing if none is left        |
| inside  | a closing string is complete                 | outside                                                     |
| closing | the forced token was generated               | closing, until the forced text is complete; then outside    |
| closing | the grammar does not allow the forced token  | closing: forced again in the next step                      |

All reasoning of an output counts towards one budget. Text that the model has already written of the closing string is
not forced again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import mlx.core as mx
from mlx_host.requests import ReasoningMarkup

from mlx_host_text.detokenizer import Detokenizer
from mlx_host_text.sampling import Array
from mlx_host_text.structured_output import GrammarMatcher


@dataclass(frozen=True)
class ReasoningBudget:
    """At most `tokens` tokens of reasoning, then `message` and the closing string of `markup`."""

    tokens: int
    markup: ReasoningMarkup
    message: str = ""


class BudgetState(Enum):
    """The state of a ReasoningLimiter; see the table above."""

    OUTSIDE = auto()
    INSIDE = auto()
    CLOSING = auto()


class ReasoningLimiter:
    """Applies a ReasoningBudget to one sequence, and then the sequence's grammar if there is one.

    `encode` tokenizes text with special tokens. The output starts inside reasoning if `generation_prompt` opens it.
    """

    def __init__(
        self,
        budget: ReasoningBudget,
        generation_prompt: str,
        detokenizer: Detokenizer,
        encode: Callable[[str], Sequence[int]],
        matcher: GrammarMatcher | None,
    ) -> None:
        self._budget = budget
        self._detokenizer = detokenizer
        self._encode = encode
        self._matcher = matcher
        self._left = budget.tokens
        self._text = ""
        self._forced: list[int] = []
        self._tail = max(len(text) for text in (*budget.markup.open, *budget.markup.close))
        self._state = BudgetState.OUTSIDE
        if _last(generation_prompt, budget.markup.open) > _last(generation_prompt, budget.markup.close):
            self._enter()

    def process(self, token: int | None, logits: Array) -> Array:
        """Mask logits (1, vocabulary) of the token that follows `token`, the last of the output if any."""
        if token is not None:
            self._observe(token)
        forced = self._forced[0] if self._state is BudgetState.CLOSING else None
        if self._matcher is not None:
            return self._matcher.process(token, logits, forced)
        return logits if forced is None else only_token(logits, forced)

    def _observe(self, token: int) -> None:
        text = self._detokenizer.add(token)
        if self._state is BudgetState.CLOSING:
            if token == self._forced[0]:
                self._forced.pop(0)
            if not self._forced:
                self._state, self._text = BudgetState.OUTSIDE, ""
            return
        self._text += text
        markup = self._budget.markup
        if self._state is BudgetState.OUTSIDE:
            if (opened := _first_end(self._text, markup.open)) is not None:
                self._text = self._text[opened:]
                self._enter()
            else:
                self._text = self._text[-self._tail :]
            return
        if (closed := _first_end(self._text, markup.close)) is not None:
            self._text = self._text[closed:]
            self._state = BudgetState.OUTSIDE
            return
        self._text = self._text[-self._tail :]
        self._left -= 1
        if self._left <= 0:
            self._close()

    def _enter(self) -> None:
        self._state = BudgetState.INSIDE
        if self._left <= 0:
            self._close()

    def _close(self) -> None:
        closing = self._budget.markup.closing
        written = next((n for n in range(len(closing) - 1, 0, -1) if self._text.endswith(closing[:n])), 0)
        text = closing[written:] if written else self._budget.message + closing
        self._forced = list(self._encode(text))
        self._state = BudgetState.CLOSING


def only_token(logits: Array, token: int) -> Array:
    """Set all logits (1, vocabulary) except that of `token` to -inf."""
    return mx.where(mx.arange(logits.shape[-1]) == token, logits, mx.array(-mx.inf, logits.dtype))


def _last(text: str, strings: Sequence[str]) -> int:
    return max((text.rfind(string) for string in strings), default=-1)


def _first_end(text: str, strings: Sequence[str]) -> int | None:
    """The end of the string that begins first in `text`, of the longest one if several begin there."""
    found = [(at, -len(string)) for string in strings if (at := text.find(string)) >= 0]
    if not found:
        return None
    at, negative_length = min(found)
    return at - negative_length

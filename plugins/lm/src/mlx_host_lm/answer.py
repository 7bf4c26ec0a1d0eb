"""One request while it is answered: its rows' news become events."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_host.errors import EngineError, RequestError
from mlx_host.events import (
    ChoiceFinished,
    Event,
    EventBatch,
    Finished,
    Logprobs,
    Progress,
    StopReason,
    TextDelta,
    TokenLogprob,
)

from mlx_host_lm.batch import Batch
from mlx_host_lm.detokenizer import Detokenizer
from mlx_host_lm.mlx_lm_api import Read, Row, Sampled, Snapshot, Tokenizer
from mlx_host_lm.sampling import Array, Processor, Sampler
from mlx_host_lm.structure import Guide


@dataclass(frozen=True)
class Plan:
    """What is to be generated: `n` answers to `prompt`, of which `cached` needs no reading.

    `keep_at` is how much of the prompt goes to the prompt cache once it is read. `guides`, if there are any,
    hold the answers to a form. `context` is the end of the prompt where the answers go on with its text; it is empty
    where they begin a text of their own. `inputs` is what the rows read in place of the prompt's tokens, for those that
    can: the tokens are then its key in the prompt cache.
    """

    prompt: list[int]
    cached: Snapshot | None
    keep_at: int | None
    n: int
    max_tokens: int
    samplers: list[Sampler]
    processors: list[Processor]
    top_logprobs: int | None
    guides: Sequence[Guide] = ()
    context: Sequence[int] = ()
    inputs: Any = None

    @property
    def cached_tokens(self) -> int:
        return 0 if self.cached is None else len(self.cached.tokens)


class Choice:
    """One answer's text as it grows; what has been added since the last `take` is handed over as one piece.

    `sampled` tokens have come out of the batch, those included that were not added yet.
    """

    def __init__(self, index: int, detokenizer: Detokenizer) -> None:
        self.index = index
        self.sampled = 0
        self.reason: StopReason | None = None
        self.total = 0
        self._detokenizer = detokenizer
        self._text = ""
        self._tokens = 0
        self._logprobs: list[Logprobs] = []

    def add(self, token: int, logprobs: Logprobs | None) -> None:
        self._text += self._detokenizer.add(token)
        if logprobs is not None:
            self._logprobs.append(logprobs)
        self._count()

    def end(self, reason: StopReason) -> None:
        self._text += self._detokenizer.finish()
        self.reason = reason

    def add_end_token(self) -> None:
        """An end-of-sequence token counts, for it was generated, but it is nobody's text."""
        self._count()

    def take(self) -> TextDelta | None:
        """Whole characters only: tokens without text wait for those that complete it, or for the end."""
        if not self._text and not (self._tokens and self.reason is not None):
            return None
        piece = TextDelta(self._text, self._tokens, self.index, tuple(self._logprobs))
        self._text, self._tokens, self._logprobs = "", 0, []
        return piece

    def _count(self) -> None:
        self._tokens += 1
        self.total += 1


class Answer:
    """The answers to one request, from its rows in the batch."""

    def __init__(self, plan: Plan, batch: Batch, tokenizer: Tokenizer) -> None:
        self._plan = plan
        self._batch = batch
        self._tokenizer = tokenizer
        self._inbox: list[Read | Sampled] = []
        self._failure: RequestError | None = None
        self._choices: dict[int, Choice] = {}
        self._open = plan.n

    def events(self, opening: Event) -> Iterator[Event | None]:
        """Join the batch and say the opening, then turn by turn say what is new.

        The first request in a round that has nothing to say steps the batch for all of them. One that was slow to be
        asked says several tokens at once.
        """
        try:
            # Joining comes first, so that requests which start in the same round read their prompts together.
            self._join()
            seen = self._batch.steps
            yield opening
            while self._open:
                if not self._inbox and self._failure is None and self._batch.steps == seen:
                    self._batch.step()
                seen = self._batch.steps
                if self._failure is not None:
                    raise self._failure
                news = tuple(self._read_inbox())
                yield EventBatch(news) if news else None
        finally:
            self._batch.remove(self)

    def on_read(self, read: Read) -> None:
        if read.uid != next(iter(self._choices)):
            return
        position = self._plan.cached_tokens + read.done
        splits = self._plan.n > len(self._choices) and position == len(self._plan.prompt) - 1
        if splits or position == self._plan.keep_at:
            snapshot = self._batch.snapshot(read.uid)
            if position == self._plan.keep_at:
                self._batch.keep(snapshot)
            if splits:
                self._add_rows(snapshot, self._plan.n - len(self._choices))
        self._inbox.append(read)

    def on_sampled(self, sampled: Sampled) -> None:
        if sampled.snapshot is not None and self._plan.n == 1:
            self._batch.keep(sampled.snapshot)
        choice = self._choices[sampled.uid]
        choice.sampled += 1
        if self._plan.guides:
            # An answer that was complete by then is as good as any.
            guide = self._plan.guides[choice.index]
            if guide.error and (sampled.reason is None or choice.sampled > guide.read):
                self._failure = guide.error
        self._inbox.append(sampled)

    def on_failure(self, error: EngineError) -> None:
        self._failure = error

    def _join(self) -> None:
        """Add all rows if there is nothing to read; else one, from which the others split off when it has read."""
        unread = len(self._plan.prompt) - self._plan.cached_tokens
        self._add_rows(self._plan.cached, self._plan.n if unread == 1 else 1)

    def _add_rows(self, cached: Snapshot | None, count: int) -> None:
        prompt, keep_at = self._plan.prompt, self._plan.keep_at
        start = 0 if cached is None else len(cached.tokens)
        cut = keep_at if keep_at is not None and start < keep_at else start
        for _ in range(count):
            index = len(self._choices)
            row = Row(
                segments=[segment for segment in (prompt[start:cut], prompt[cut:]) if segment],
                cached=cached,
                max_tokens=self._plan.max_tokens,
                sampler=self._plan.samplers[index],
                processors=self._plan.processors,
                guide=self._plan.guides[index] if self._plan.guides else None,
                inputs=self._plan.inputs,
            )
            detokenizer = self._tokenizer.detokenizer(self._plan.context)
            self._choices[self._batch.add(row, self)] = Choice(index, detokenizer)

    def _read_inbox(self) -> Iterator[Event]:
        inbox, self._inbox = self._inbox, []
        touched: dict[int, Choice] = {}
        read: Read | None = None
        for news in inbox:
            if isinstance(news, Read):
                read = news
            else:
                touched[news.uid] = self._choices[news.uid]
                self._add(news)
        if read is not None and not touched:
            yield Progress("prefill", self._plan.cached_tokens + read.done, len(self._plan.prompt))
        for choice in touched.values():
            if text := choice.take():
                yield text
            if choice.reason is not None:
                self._open -= 1
                yield self._ending(choice, choice.reason)

    def _ending(self, choice: Choice, reason: StopReason) -> Event:
        if self._open:
            return ChoiceFinished(reason, choice.index)
        return Finished(reason=reason, completion_tokens=sum(each.total for each in self._choices.values()))

    def _add(self, sampled: Sampled) -> None:
        choice = self._choices[sampled.uid]
        if sampled.reason == "stop":
            choice.add_end_token()
        else:
            choice.add(sampled.token, self._logprobs(sampled))
        if sampled.reason is not None:
            choice.end(sampled.reason)

    def _logprobs(self, sampled: Sampled) -> Logprobs | None:
        if self._plan.top_logprobs is None:
            return None
        token_bytes = self._tokenizer.token_bytes
        chosen = candidate(sampled.token, sampled.logprobs[sampled.token].item(), token_bytes)
        (top,) = best_of_each(sampled.logprobs[None], self._plan.top_logprobs, token_bytes)
        return Logprobs(chosen, tuple(top))


def candidate(token: int, logprob: float, token_bytes: Callable[[int], bytes]) -> TokenLogprob:
    raw = token_bytes(token)
    return TokenLogprob(raw.decode("utf-8", "replace"), logprob, raw)


def best_of_each(logprobs: Array, count: int, token_bytes: Callable[[int], bytes]) -> list[list[TokenLogprob]]:
    """The most likely tokens of each row (rows, vocabulary), best first; equally likely ones by their number.

    Tokens that cannot come are none of them.
    """
    if count == 0:
        return [[] for _ in range(logprobs.shape[0])]
    count = min(count, logprobs.shape[-1])
    indices: Array = mx.argpartition(-logprobs, kth=count - 1, axis=-1)[:, :count]
    values: Array = mx.take_along_axis(logprobs, indices, axis=-1)
    rows = zip(indices.tolist(), values.tolist(), strict=True)
    pairs = [sorted(zip(*row, strict=True), key=lambda pair: (-pair[1], pair[0])) for row in rows]
    return [[candidate(token, logprob, token_bytes) for token, logprob in row if logprob > -math.inf] for row in pairs]

"""A running generation request, which converts the output of its sequences to events.

The life of a sequence (one per choice), which object owns its cache, and the transitions:

| state    | cache                   | next                                                                          |
| -------- | ----------------------- | ----------------------------------------------------------------------------- |
| planned  | snapshot or none        | first turn: choice 0 → prefill; all choices → decode if one token is left     |
| waiting  | none (choices 1 to n-1) | choice 0 has one prompt token left → decode, from a snapshot of choice 0      |
| prefill  | batch                   | end of a segment → prefill, snapshot to the prefix cache; last token → decode |
| decode   | batch                   | token → decode; `stop` or `length` → finished; grammar dead end → failed      |
| finished | prefix cache, if n is 1 | the last choice ends the request                                              |
| failed   | none                    | the batch or the grammar failed; the request raises in its next turn          |

Closing the generator, in any state, removes the request's sequences from the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

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
)

from mlx_host_text.detokenizer import Detokenizer
from mlx_host_text.generation_loop import GenerationLoop
from mlx_host_text.logprobs import token_logprob, top_logprobs
from mlx_host_text.reasoning_budget import ReasoningBudget, ReasoningLimiter
from mlx_host_text.sampling import LogitsProcessor, Sampler
from mlx_host_text.sequence import CacheSnapshot, Guide, PrefillOutput, SequenceState, TokenOutput
from mlx_host_text.structured_output import GrammarMatcher
from mlx_host_text.tokenizer import Tokenizer


@dataclass(frozen=True)
class GenerationPlan:
    """What to generate: `n` choices that continue `prompt`, the first tokens of which are in `cached`.

    `checkpoints` are the prompt lengths at which the prefix cache gets a copy, in ascending order; `cache_output` also
    stores the finished sequence. `matchers`, one per choice if any, constrain the output. `budget` limits the reasoning
    of each choice. A token of `stop_token_ids` ends a choice. `context` is the end of the
    prompt where the output continues its text. `inputs` replace the tokens for libraries that need more than them; the
    prompt's tokens are then its key in the prefix cache.
    """

    prompt: list[int]
    cached: CacheSnapshot | None
    checkpoints: Sequence[int]
    cache_output: bool
    n: int
    max_tokens: int
    samplers: list[Sampler]
    processors: list[LogitsProcessor]
    top_logprobs: int | None
    matchers: Sequence[GrammarMatcher] = ()
    budget: ReasoningBudget | None = None
    generation_prompt: str = ""
    stop_token_ids: frozenset[int] = frozenset()
    context: Sequence[int] = ()
    inputs: Any = None

    @property
    def cached_tokens(self) -> int:
        return 0 if self.cached is None else len(self.cached.tokens)


class ChoiceState:
    """The text of one choice; `take` returns what was added since the last call as one event.

    `token_count` includes the end token, `received` also tokens that were not added yet.
    """

    def __init__(self, index: int, detokenizer: Detokenizer) -> None:
        self.index = index
        self.received = 0
        self.token_count = 0
        self.reason: StopReason | None = None
        self._detokenizer = detokenizer
        self._text = ""
        self._tokens = 0
        self._logprobs: list[Logprobs] = []

    def add(self, token: int, logprobs: Logprobs | None) -> None:
        self._text += self._detokenizer.add(token)
        if logprobs is not None:
            self._logprobs.append(logprobs)
        self._count()

    def add_end_token(self) -> None:
        """Count an end-of-sequence token, which was generated but has no text."""
        self._count()

    def end(self, reason: StopReason) -> None:
        self._text += self._detokenizer.finish()
        self.reason = reason

    def take(self) -> TextDelta | None:
        """Whole characters only: tokens without text wait for the token that completes it, or for the end."""
        if not self._text and not (self._tokens and self.reason is not None):
            return None
        delta = TextDelta(self._text, self._tokens, self.index, tuple(self._logprobs))
        self._text, self._tokens, self._logprobs = "", 0, []
        return delta

    def _count(self) -> None:
        self._tokens += 1
        self.token_count += 1


class RequestState:
    """The choices of one request and their sequences in the batch."""

    def __init__(self, plan: GenerationPlan, loop: GenerationLoop, tokenizer: Tokenizer) -> None:
        self._plan = plan
        self._loop = loop
        self._tokenizer = tokenizer
        self._inbox: list[PrefillOutput | TokenOutput] = []
        self._failure: RequestError | None = None
        self._choices: dict[int, ChoiceState] = {}
        self._unfinished = plan.n

    def events(self, opening: Event) -> Iterator[Event | None]:
        """Join the batch and yield `opening`, then yield what is new in each turn.

        The first request of a round without new output steps the batch for all of them. A request that is advanced
        rarely yields several tokens at once.
        """
        try:
            # Joining comes first, so that requests which start in the same round are prefilled together.
            self._join()
            steps = self._loop.steps
            yield opening
            while self._unfinished:
                if not self._inbox and self._failure is None and self._loop.steps == steps:
                    self._loop.step()
                steps = self._loop.steps
                if self._failure is not None:
                    raise self._failure
                events = tuple(self._process_inbox())
                yield EventBatch(events) if events else None
        finally:
            self._loop.remove(self)

    def on_prefill(self, output: PrefillOutput) -> None:
        if output.sequence_id != next(iter(self._choices)):
            return
        position = self._plan.cached_tokens + output.done
        forks = self._plan.n > len(self._choices) and position == len(self._plan.prompt) - 1
        stores = position in self._plan.checkpoints
        if forks or stores:
            snapshot = self._loop.snapshot(output.sequence_id)
            if stores:
                self._loop.store(snapshot)
            if forks:
                self._add_sequences(snapshot, self._plan.n - len(self._choices))
        self._inbox.append(output)

    def on_token(self, output: TokenOutput) -> None:
        if output.snapshot is not None and self._plan.cache_output:
            self._loop.store(output.snapshot)
        choice = self._choices[output.sequence_id]
        choice.received += 1
        if self._plan.matchers:
            matcher = self._plan.matchers[choice.index]
            # Output that was complete before the dead end is valid.
            if matcher.error and (output.reason is None or choice.received > matcher.token_count):
                self._failure = matcher.error
        if output.reason is None and output.token in self._plan.stop_token_ids:
            self._loop.remove_sequence(output.sequence_id)
            output = replace(output, reason="stop")
        self._inbox.append(output)

    def on_failure(self, error: EngineError) -> None:
        self._failure = error

    def _join(self) -> None:
        """Add all choices if one prompt token is left; otherwise one, from which the others fork after prefill."""
        remaining = len(self._plan.prompt) - self._plan.cached_tokens
        self._add_sequences(self._plan.cached, self._plan.n if remaining == 1 else 1)

    def _add_sequences(self, cached: CacheSnapshot | None, count: int) -> None:
        start = 0 if cached is None else len(cached.tokens)
        for _ in range(count):
            index = len(self._choices)
            sequence = SequenceState(
                segments=self._segments(start),
                cached=cached,
                max_tokens=self._plan.max_tokens,
                sampler=self._plan.samplers[index],
                processors=self._plan.processors,
                guide=self._guide(index),
                inputs=self._plan.inputs,
            )
            detokenizer = self._tokenizer.detokenizer(self._plan.context)
            self._choices[self._loop.add(sequence, self)] = ChoiceState(index, detokenizer)

    def _guide(self, index: int) -> Guide | None:
        matcher = self._plan.matchers[index] if self._plan.matchers else None
        if self._plan.budget is None:
            return matcher
        return ReasoningLimiter(
            self._plan.budget,
            self._plan.generation_prompt,
            self._tokenizer.detokenizer(self._plan.context),
            self._tokenizer.encode,
            matcher,
        )

    def _segments(self, start: int) -> list[list[int]]:
        """The prompt from token number `start`, split at the checkpoints."""
        prompt = self._plan.prompt
        cuts = [start, *(point for point in self._plan.checkpoints if start < point < len(prompt)), len(prompt)]
        return [prompt[begin:end] for begin, end in pairwise(cuts)]

    def _process_inbox(self) -> Iterator[Event]:
        inbox, self._inbox = self._inbox, []
        touched: dict[int, ChoiceState] = {}
        prefill: PrefillOutput | None = None
        for output in inbox:
            if isinstance(output, PrefillOutput):
                prefill = output
            else:
                touched[output.sequence_id] = self._choices[output.sequence_id]
                self._add(output)
        if prefill is not None and not touched:
            yield Progress("prefill", self._plan.cached_tokens + prefill.done, len(self._plan.prompt))
        for choice in touched.values():
            if delta := choice.take():
                yield delta
            if choice.reason is not None:
                self._unfinished -= 1
                yield self._finish(choice, choice.reason)

    def _finish(self, choice: ChoiceState, reason: StopReason) -> Event:
        if self._unfinished:
            return ChoiceFinished(reason, choice.index)
        tokens = sum(each.token_count for each in self._choices.values())
        return Finished(reason=reason, completion_tokens=tokens)

    def _add(self, output: TokenOutput) -> None:
        choice = self._choices[output.sequence_id]
        if output.reason == "stop" and not self._is_visible(output.token):
            choice.add_end_token()
        else:
            choice.add(output.token, self._logprobs(output))
        if output.reason is not None:
            choice.end(output.reason)

    def _is_visible(self, token: int) -> bool:
        """Whether a token that ends the output has text: stop tokens do, unless they are special."""
        return token in self._plan.stop_token_ids and not self._tokenizer.is_special(token)

    def _logprobs(self, output: TokenOutput) -> Logprobs | None:
        if self._plan.top_logprobs is None:
            return None
        token_bytes = self._tokenizer.token_bytes
        chosen = token_logprob(output.token, output.logprobs[output.token].item(), token_bytes)
        (top,) = top_logprobs(output.logprobs[None], self._plan.top_logprobs, token_bytes)
        return Logprobs(chosen, tuple(top))

"""Stop strings: matched in the text of each choice across token boundaries; part of the output only if requested.

A choice ends at the stop string that is completed first; of several that are completed by the same character, at the
longest. The result therefore does not depend on how the text is split into tokens.

States of a StopMatcher:

    state       held text                              next state
    STREAMING   none                                   HOLDING if the text ends with a prefix of a stop string; MATCHED
    HOLDING     the longest such prefix, with the      STREAMING if it is not continued; HOLDING with a shorter prefix;
                log-probabilities of its tokens        MATCHED; FLUSHED
    MATCHED     -                                      none: the choice is finished before or, with `include`, after
                                                       the stop string
    FLUSHED     -                                      none: the model finished the choice, and the held text is output
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from mlx_host.events import ChoiceFinished, Event, EventBatch, Finished, Logprobs, TextDelta, iter_events


def partial_stop_length(text: str, stops: Sequence[str]) -> int:
    """Return the length of the longest end of `text` that is a proper prefix of a stop string."""
    max_length = min(len(text), max(len(stop) for stop in stops) - 1)
    for length in range(max_length, 0, -1):
        tail = text[-length:]
        if any(stop.startswith(tail) for stop in stops):
            return length
    return 0


class StopMatcher:
    """Matches the stop strings in the text of one choice; `matched` is the one that was found."""

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self.matched: str | None = None
        self._stops = stops
        self._include = include
        self._held = ""
        # Log-probabilities, each with the offset of its text in the held text.
        self._logprobs: deque[tuple[int, tuple[Logprobs, ...]]] = deque()

    def feed(self, text: TextDelta) -> tuple[TextDelta, bool]:
        """Add text; return the text that can be output, and whether a stop string was found."""
        if text.logprobs:
            self._logprobs.append((len(self._held), text.logprobs))
        self._held += text.text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            end, at, self.matched = min(found)
            return self._release(text, end if self._include else at), True
        return self._release(text, len(self._held) - partial_stop_length(self._held, self._stops)), False

    def flush(self, choice: int) -> TextDelta:
        """Return the held text, after the model has finished the choice."""
        return self._release(TextDelta("", token_count=0, choice=choice), len(self._held))

    def _release(self, text: TextDelta, length: int) -> TextDelta:
        """Release `length` characters, with the log-probabilities of the tokens that begin in them."""
        released, self._held = self._held[:length], self._held[length:]
        released_logprobs: tuple[Logprobs, ...] = ()
        while self._logprobs and (self._logprobs[0][0] < length or not self._held):
            released_logprobs += self._logprobs.popleft()[1]
        self._logprobs = deque((at - length, logprobs) for at, logprobs in self._logprobs)
        return replace(text, text=released, logprobs=released_logprobs)


class StopFilter:
    """Ends each of the `n` choices at its first stop string; `finished` is set when all choices have ended."""

    def __init__(self, stops: Sequence[str], n: int, *, include: bool = False) -> None:
        self.finished = False
        self._matchers = {choice: StopMatcher(stops, include=include) for choice in range(n)}
        self._tokens = self._discarded_tokens = 0

    def process(self, event: Event) -> Iterator[Event]:
        """Yield the events that replace a model's event."""
        match event:
            case TextDelta(choice=choice) if choice not in self._matchers:
                self._discarded_tokens += event.token_count
            case TextDelta():
                yield from self._text(event)
            case ChoiceFinished(choice=choice):
                if choice in self._matchers:
                    yield self._matchers.pop(choice).flush(choice)
                    yield event
            case Finished():
                self.finished = True
                for choice, matcher in self._matchers.items():
                    yield matcher.flush(choice)
                tokens = max(event.completion_tokens - self._discarded_tokens, self._tokens)
                yield replace(event, completion_tokens=tokens)
            case _:
                yield event

    def _text(self, event: TextDelta) -> Iterator[Event]:
        self._tokens += event.token_count
        text, stopped = self._matchers[event.choice].feed(event)
        yield text
        if not stopped:
            return
        matched = self._matchers.pop(event.choice).matched
        if self._matchers:
            yield ChoiceFinished("stop", event.choice, matched)
        else:
            self.finished = True
            yield Finished(reason="stop", completion_tokens=self._tokens, stop=matched)


def with_stops(
    events: Iterator[Event | None], stops: Sequence[str], n: int, *, include: bool = False
) -> Iterator[Event | None]:
    """Yield a model's output with each of its `n` choices ended at its first stop string, which `include` keeps."""
    stops_filter = StopFilter(stops, n, include=include)
    try:
        for step in events:
            remaining: list[Event] = []
            for event in () if step is None else iter_events(step):
                remaining += stops_filter.process(event)
                if stops_filter.finished:
                    break
            yield EventBatch(tuple(remaining)) if remaining else None
            if stops_filter.finished:
                return
    finally:
        if isinstance(events, Generator):
            events.close()

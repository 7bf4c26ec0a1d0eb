"""Stop strings, matched on the text of each choice across token boundaries, and never part of the output.

A choice ends where the first stop string is complete; of several that are complete at the same character the longest
counts. So the result does not depend on how the text was divided into tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from mlx_host.events import ChoiceFinished, Event, EventBatch, Finished, Logprobs, TextDelta, iter_events


def partial_stop_length(text: str, stops: Sequence[str]) -> int:
    """Return the number of characters at the end of `text` that may be the beginning of a stop string."""
    longest = min(len(text), max(len(stop) for stop in stops) - 1)
    for length in range(longest, 0, -1):
        tail = text[-length:]
        if any(stop.startswith(tail) for stop in stops):
            return length
    return 0


class StopMatcher:
    """Passes the text of one choice on until a stop string is complete."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.matched: str | None = None
        self._stops = stops
        self._held = ""
        # Log-probabilities with the offset of their text in the held text.
        self._logprobs: deque[tuple[int, tuple[Logprobs, ...]]] = deque()

    def feed(self, text: TextDelta) -> tuple[TextDelta, bool]:
        """Return the text that can be passed on and whether the choice is complete."""
        if text.logprobs:
            self._logprobs.append((len(self._held), text.logprobs))
        self._held += text.text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            _, at, self.matched = min(found)
            return self._release(text, at), True
        return self._release(text, len(self._held) - partial_stop_length(self._held, self._stops)), False

    def flush(self, choice: int) -> TextDelta:
        """Return the held text when the choice ended without a stop string."""
        return self._release(TextDelta("", token_count=0, choice=choice), len(self._held))

    def _release(self, text: TextDelta, length: int) -> TextDelta:
        """Release `length` characters; a token's log-probabilities go with the first of its characters."""
        released, self._held = self._held[:length], self._held[length:]
        logprobs: tuple[Logprobs, ...] = ()
        while self._logprobs and (self._logprobs[0][0] < length or not self._held):
            logprobs += self._logprobs.popleft()[1]
        self._logprobs = deque((at - length, iter_events) for at, iter_events in self._logprobs)
        return replace(text, text=released, logprobs=logprobs)


class StopFilter:
    """Ends each of the `n` choices before the first stop string in it; `finished` is set when all have ended."""

    def __init__(self, stops: Sequence[str], n: int) -> None:
        self.finished = False
        self._matchers = {choice: StopMatcher(stops) for choice in range(n)}
        self._tokens = self._discarded_tokens = 0

    def process(self, event: Event) -> Iterator[Event]:
        """Yield what is left of an event."""
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


def with_stops(events: Iterator[Event | None], stops: Sequence[str], n: int) -> Iterator[Event | None]:
    """Yield a model's output with each of its `n` choices ended before the first stop string in it."""
    stops_filter = StopFilter(stops, n)
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

"""Stop strings, matched on the text of each answer, across the borders of tokens, and never shown.

The answer ends where the first stop string is complete; of several that are complete at one character the longest
counts. So how the text was cut into tokens never shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from mlx_host.events import ChoiceFinished, Event, Finished, Logprobs, Several, Text, each


def held_back(text: str, stops: Sequence[str]) -> int:
    """Count the characters at the end of `text` that may be the beginning of a stop string."""
    longest = min(len(text), max(len(stop) for stop in stops) - 1)
    for length in range(longest, 0, -1):
        tail = text[-length:]
        if any(stop.startswith(tail) for stop in stops):
            return length
    return 0


class StopMatcher:
    """Lets the text of one answer through until a stop string is complete."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.matched: str | None = None
        self._stops = stops
        self._held = ""
        # Log-probabilities with where their text begins, counted from the beginning of what is held.
        self._logprobs: deque[tuple[int, tuple[Logprobs, ...]]] = deque()

    def feed(self, text: Text) -> tuple[Text, bool]:
        """Return what may be shown by now and whether the answer is over."""
        if text.logprobs:
            self._logprobs.append((len(self._held), text.logprobs))
        self._held += text.text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            _, at, self.matched = min(found)
            return self._release(text, at), True
        return self._release(text, len(self._held) - held_back(self._held, self._stops)), False

    def flush(self, choice: int) -> Text:
        """Return what was held back, the answer having ended without a stop string."""
        return self._release(Text("", tokens=0, choice=choice), len(self._held))

    def _release(self, text: Text, length: int) -> Text:
        """Show so many characters; a token's log-probabilities go out with the first of its characters."""
        shown, self._held = self._held[:length], self._held[length:]
        logprobs: tuple[Logprobs, ...] = ()
        while self._logprobs and (self._logprobs[0][0] < length or not self._held):
            logprobs += self._logprobs.popleft()[1]
        self._logprobs = deque((at - length, each) for at, each in self._logprobs)
        return replace(text, text=shown, logprobs=logprobs)


class StopFilter:
    """Ends each of the `n` choices of an answer before the first stop string in it."""

    def __init__(self, stops: Sequence[str], n: int) -> None:
        self.over = False
        self._matchers = {choice: StopMatcher(stops) for choice in range(n)}
        self._counted = self._unwanted = 0

    def take(self, event: Event) -> Iterator[Event]:
        """Say what is left of an event."""
        match event:
            case Text(choice=choice) if choice not in self._matchers:
                self._unwanted += event.tokens
            case Text():
                yield from self._text(event)
            case ChoiceFinished(choice=choice):
                if choice in self._matchers:
                    yield self._matchers.pop(choice).flush(choice)
                    yield event
            case Finished():
                self.over = True
                for choice, matcher in self._matchers.items():
                    yield matcher.flush(choice)
                counted = max(event.completion_tokens - self._unwanted, self._counted)
                yield replace(event, completion_tokens=counted)
            case _:
                yield event

    def _text(self, event: Text) -> Iterator[Event]:
        self._counted += event.tokens
        shown, stopped = self._matchers[event.choice].feed(event)
        yield shown
        if not stopped:
            return
        matched = self._matchers.pop(event.choice).matched
        if self._matchers:
            yield ChoiceFinished("stop", event.choice, matched)
        else:
            self.over = True
            yield Finished(reason="stop", completion_tokens=self._counted, stop=matched)


def with_stops(events: Iterator[Event | None], stops: Sequence[str], n: int) -> Iterator[Event | None]:
    """Wrap a model's answer so that each of its `n` choices ends before the first stop string in it."""
    stop = StopFilter(stops, n)
    try:
        for said in events:
            left: list[Event] = []
            for event in () if said is None else each(said):
                left += stop.take(event)
                if stop.over:
                    break
            yield Several(tuple(left)) if left else None
            if stop.over:
                return
    finally:
        if isinstance(events, Generator):
            events.close()

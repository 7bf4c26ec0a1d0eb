"""Stop strings, matched on the text of each answer, across the borders of tokens, and never shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlx_host.events import ChoiceFinished, Event, Finished, Logprobs, Text


def held_back(text: str, stops: Sequence[str]) -> int:
    """Count the characters at the end of `text` that may be the beginning of a stop string."""
    longest = min(len(text), max(len(stop) for stop in stops) - 1)
    for length in range(longest, 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0


class StopMatcher:
    """Lets the text of one answer through until a stop string appears."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.tokens = 0
        self._logprobs: tuple[Logprobs, ...] = ()

    def feed(self, text: Text) -> tuple[Text, bool]:
        """Return what may be shown by now and whether the answer is over."""
        self._held += text.text
        self.tokens += text.tokens
        self._logprobs += text.logprobs
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            return self._release(text, min(found)), True
        return self._release(text, len(self._held) - held_back(self._held, self._stops)), False

    def flush(self, choice: int) -> Text:
        """Return what was held back, the answer having ended without a stop string."""
        return self._release(Text("", tokens=0, choice=choice), len(self._held))

    def _release(self, text: Text, length: int) -> Text:
        shown, self._held = self._held[:length], self._held[length:]
        # Tokens count when they are made; their log-probabilities go out with the text they belong to.
        logprobs: tuple[Logprobs, ...] = ()
        if shown or not self._held:
            logprobs, self._logprobs = self._logprobs, ()
        return replace(text, text=shown, logprobs=logprobs)


def with_stops(events: Iterator[Event | None], stops: Sequence[str], n: int) -> Iterator[Event | None]:
    """Wrap a model's answer so that each of its `n` choices ends before the first stop string in it."""
    matchers = {choice: StopMatcher(stops) for choice in range(n)}
    total = 0
    try:
        for event in events:
            match event:
                case Text(choice=choice):
                    if choice not in matchers:
                        continue
                    total += event.tokens
                    shown, over = matchers[choice].feed(event)
                    yield shown
                    if over:
                        del matchers[choice]
                        if not matchers:
                            yield Finished(reason="stop", completion_tokens=total)
                            return
                        yield ChoiceFinished("stop", choice)
                case ChoiceFinished(choice=choice):
                    if choice in matchers:
                        yield matchers.pop(choice).flush(choice)
                        yield event
                case Finished():
                    for choice, matcher in matchers.items():
                        yield matcher.flush(choice)
                    yield event
                    return
                case _:
                    yield event
    finally:
        close = getattr(events, "close", None)
        if close is not None:
            close()

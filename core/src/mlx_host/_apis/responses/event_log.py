"""The events of a background response, which several clients can follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from mlx_host._apis.responses.output_items import Event
from mlx_host.api.http import Message, dumps, loads


class EventLog:
    """The events so far, as JSON; the number of an event is its index. Every reader has its own position."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._names: list[str] = []
        self._closed = False
        self._changed = asyncio.Event()

    @classmethod
    def complete(cls, events: Sequence[str]) -> EventLog:
        """Return the log of a response that is complete."""
        log = cls()
        log.events = list(events)
        log._names = [loads(event.encode())["type"] for event in events]
        log._closed = True
        return log

    def append(self, events: Sequence[Event]) -> None:
        """Add events, and wake the readers."""
        self.events += [dumps(event) for event in events]
        self._names += [event["type"] for event in events]
        self._wake()

    def close(self) -> None:
        """End the log: readers stop after the last event."""
        self._closed = True
        self._wake()

    async def follow(self, after: int = -1) -> AsyncIterator[list[Message]]:
        """Iterate over the events with numbers greater than `after`, in batches, as they arrive."""
        position = after + 1
        while True:
            changed = self._changed
            if position < len(self.events):
                arrived = list(zip(self.events[position:], self._names[position:], strict=True))
                position = len(self.events)
                yield [Message(event, name) for event, name in arrived]
            elif self._closed:
                return
            else:
                await changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

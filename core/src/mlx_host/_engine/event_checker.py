"""Checks that the events of a request follow the event protocol, so that the host never sees output that does not.

Every output is Started, other events, Finished. The rules of each type of request say what else holds. Text of a choice
after its ChoiceFinished is no error: the host ignores it.
"""

from __future__ import annotations

from mlx_host.events import (
    ChoiceFinished,
    EmbeddingBatch,
    Event,
    Finished,
    ImageCompleted,
    ImagesStarted,
    PartialImage,
    Progress,
    Segment,
    Started,
    TextDelta,
    Tokenized,
    TranscriptionStarted,
    iter_events,
)
from mlx_host.requests import (
    EmbeddingRequest,
    GenerationRequest,
    ImageRequest,
    Request,
    TokenizeRequest,
    TranscriptionRequest,
)

FLOAT32_SIZE = 4


class EventProtocolError(Exception):
    """A model's output breaks the event protocol; the message names the event."""


class Rules:
    """The rules for one type of request; these allow everything."""

    started: type[Started] = Started

    def check(self, event: Event) -> None:
        """Check an event other than Started and Finished."""

    def check_complete(self) -> None:
        """Check that nothing is missing when Finished comes."""


class EmbeddingRules(Rules):
    """Every input has exactly one vector, and all vectors have the same number of dimensions."""

    def __init__(self, request: EmbeddingRequest) -> None:
        self._count = len(request.inputs)
        self._missing = set(range(self._count))
        self._size = None if request.dimensions is None else request.dimensions * FLOAT32_SIZE

    def check(self, event: Event) -> None:
        if not isinstance(event, EmbeddingBatch):
            return
        if not event.indices:
            raise EventProtocolError("Embedded has no indices")
        for index in event.indices:
            if index not in range(self._count):
                raise EventProtocolError(f"Embedded has index {index} in a request with {self._count} inputs")
            if index not in self._missing:
                raise EventProtocolError(f"Embedded has a second vector for input {index}")
            self._missing.remove(index)
        size, rest = divmod(len(event.vectors), len(event.indices))
        if rest or not size or size % FLOAT32_SIZE:
            raise EventProtocolError(
                f"Embedded has {len(event.vectors)} bytes for {len(event.indices)} vectors of float32"
            )
        if self._size not in (None, size):
            raise EventProtocolError(
                f"Embedded has vectors of {size // FLOAT32_SIZE} dimensions, expected {self._size // FLOAT32_SIZE}"
            )
        self._size = size

    def check_complete(self) -> None:
        if self._missing:
            raise EventProtocolError(
                f"Finished without the vectors of {len(self._missing)} of {self._count} inputs, "
                f"the first of them input {min(self._missing)}"
            )


class ImageRules(Rules):
    """Every image is finished exactly once, and has no partial images after that."""

    started = ImagesStarted

    def __init__(self, request: ImageRequest) -> None:
        self._count = request.n
        self._missing = set(range(request.n))

    def check(self, event: Event) -> None:
        if not isinstance(event, (PartialImage, ImageCompleted)):
            return
        if event.image not in range(self._count):
            raise EventProtocolError(f"{_name(event)} has image {event.image} in a request for {self._count}")
        if event.image not in self._missing:
            raise EventProtocolError(f"{_name(event)} for image {event.image}, which is finished")
        if isinstance(event, ImageCompleted):
            self._missing.remove(event.image)

    def check_complete(self) -> None:
        if self._missing:
            raise EventProtocolError(f"Finished without image {min(self._missing)} of {self._count}")


class TranscriptionRules(Rules):
    """All text comes in segments."""

    started = TranscriptionStarted

    def check(self, event: Event) -> None:
        if isinstance(event, TextDelta) and not isinstance(event, Segment):
            raise EventProtocolError("Text that is no Segment in a transcript")


class TokenizeRules(Rules):
    """The tokens come, and each has its string."""

    def __init__(self) -> None:
        self._missing = True

    def check(self, event: Event) -> None:
        if isinstance(event, Tokenized):
            self._missing = False
            if len(event.tokens) != len(event.token_strs):
                raise EventProtocolError(
                    f"Tokenized has {len(event.token_strs)} token_strs for {len(event.tokens)} tokens"
                )

    def check_complete(self) -> None:
        if self._missing:
            raise EventProtocolError("Finished without Tokenized")


def rules_for(request: Request) -> Rules:
    """Return the rules for a request's type."""
    match request:
        case EmbeddingRequest():
            return EmbeddingRules(request)
        case ImageRequest():
            return ImageRules(request)
        case TranscriptionRequest():
            return TranscriptionRules()
        case TokenizeRequest():
            return TokenizeRules()
    return Rules()


class EventChecker:
    """Checks the output of one request, step by step; EventProtocolError says what is wrong with it."""

    def __init__(self, request: Request) -> None:
        self.finished = False
        self._rules = rules_for(request)
        self._choices = range(request.n if isinstance(request, (GenerationRequest, ImageRequest)) else 1)
        self._started = False
        # The choices whose Text needs no other check at this point: none before Started and after Finished.
        self._unchecked_choices = range(0)

    def check_step(self, step: object) -> None:
        """Check what a model yielded, which may be None."""
        # Nearly all events are text: this check spares them the others.
        if step is None or (type(step) is TextDelta and step.choice in self._unchecked_choices):
            return
        if not isinstance(step, Event):
            raise EventProtocolError(f"{step!r} is no event")
        for event in iter_events(step):
            if type(event) is not TextDelta or event.choice not in self._unchecked_choices:
                self._check(event)

    def check_end(self) -> None:
        """Check that the output was complete when the model's generator ended."""
        if not self.finished:
            raise EventProtocolError("the output ended without Finished")

    def _check(self, event: Event) -> None:
        if self.finished:
            raise EventProtocolError(f"{_name(event)} after Finished")
        if isinstance(event, Started):
            self._start(event)
            return
        if not self._started:
            raise EventProtocolError(f"{_name(event)} before Started")
        match event:
            case TextDelta(choice=choice) | ChoiceFinished(choice=choice) | Progress(choice=choice):
                if choice not in self._choices:
                    raise EventProtocolError(
                        f"{_name(event)} has choice {choice} in a request for {len(self._choices)}"
                    )
            case Finished():
                self.finished = True
                self._unchecked_choices = range(0)
                self._rules.check_complete()
        self._rules.check(event)

    def _start(self, event: Started) -> None:
        if self._started:
            raise EventProtocolError(f"a second {_name(event)}")
        if not isinstance(event, self._rules.started):
            raise EventProtocolError(f"{_name(event)}, expected {self._rules.started.__name__}")
        self._started = True
        if type(self._rules) is Rules:
            self._unchecked_choices = self._choices


def _name(event: Event) -> str:
    return type(event).__name__

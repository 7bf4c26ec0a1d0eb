"""Checks that a model's events follow the event protocol; this is the only place that checks their completeness.

The output of every request is Started, other events, Finished. Each type of request has additional rules. Text of a
choice after its ChoiceFinished is allowed: the host discards it.
"""

from __future__ import annotations

from mlx_host.events import (
    ChoiceFinished,
    EmbeddingBatch,
    Event,
    Explained,
    Finished,
    ImageCompleted,
    ImagesStarted,
    PartialImage,
    Progress,
    Segment,
    Started,
    TextDelta,
    TokenCount,
    Tokenized,
    TranscriptionStarted,
    iter_events,
)
from mlx_host.requests import (
    EmbeddingRequest,
    ExplainRequest,
    GenerationRequest,
    ImageRequest,
    Request,
    TokenizeRequest,
    TranscriptionRequest,
)

FLOAT32_SIZE = 4


class EventProtocolError(Exception):
    """A model's events violate the event protocol; the message names the event."""


class Rules:
    """The rules for one type of request; the base class has none."""

    started: type[Started] = Started

    def check(self, event: Event) -> None:
        """Check an event other than Started and Finished."""

    def check_complete(self) -> None:
        """Check that the output is complete, at Finished."""


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
            raise EventProtocolError("EmbeddingBatch has no indices")
        for index in event.indices:
            if index not in range(self._count):
                raise EventProtocolError(f"EmbeddingBatch has index {index} in a request with {self._count} inputs")
            if index not in self._missing:
                raise EventProtocolError(f"EmbeddingBatch has a second vector for input {index}")
            self._missing.remove(index)
        size, rest = divmod(len(event.vectors), len(event.indices))
        if rest or not size or size % FLOAT32_SIZE:
            raise EventProtocolError(
                f"EmbeddingBatch has {len(event.vectors)} bytes for {len(event.indices)} float32 vectors"
            )
        if self._size not in (None, size):
            raise EventProtocolError(
                f"EmbeddingBatch has {size // FLOAT32_SIZE} dimensions, expected {self._size // FLOAT32_SIZE}"
            )
        self._size = size

    def check_complete(self) -> None:
        if self._missing:
            raise EventProtocolError(
                f"Finished without vectors for {len(self._missing)} of {self._count} inputs, "
                f"first missing: input {min(self._missing)}"
            )


class ImageRules(Rules):
    """Every image is completed exactly once, and has no partial images after that."""

    started = ImagesStarted

    def __init__(self, request: ImageRequest) -> None:
        self._count = request.n
        self._missing = set(range(request.n))

    def check(self, event: Event) -> None:
        if not isinstance(event, (PartialImage, ImageCompleted)):
            return
        if event.image not in range(self._count):
            raise EventProtocolError(f"{_name(event)} has image {event.image} in a request for {self._count} images")
        if event.image not in self._missing:
            raise EventProtocolError(f"{_name(event)} for image {event.image}, which is already completed")
        if isinstance(event, ImageCompleted):
            self._missing.remove(event.image)

    def check_complete(self) -> None:
        if self._missing:
            raise EventProtocolError(
                f"Finished without image {min(self._missing)} in a request for {self._count} images"
            )


class TranscriptionRules(Rules):
    """All text is in Segment events."""

    started = TranscriptionStarted

    def check(self, event: Event) -> None:
        if isinstance(event, TextDelta) and not isinstance(event, Segment):
            raise EventProtocolError("TextDelta in a transcription, expected Segment")


class ExplainRules(Rules):
    """There is an Explained event."""

    def __init__(self, request: ExplainRequest) -> None:
        self._missing = True

    def check(self, event: Event) -> None:
        if isinstance(event, Explained):
            self._missing = False

    def check_complete(self) -> None:
        if self._missing:
            raise EventProtocolError("Finished without Explained")


class TokenizeRules(Rules):
    """There is a Tokenized event with as many strings as tokens, or a TokenCount if that is all that is needed."""

    def __init__(self, request: TokenizeRequest) -> None:
        self._count_only = request.count_only
        self._missing = True

    def check(self, event: Event) -> None:
        if isinstance(event, TokenCount):
            self._missing = False
            if not self._count_only:
                raise EventProtocolError("TokenCount in a request for the tokens, expected Tokenized")
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
            return TokenizeRules(request)
        case ExplainRequest():
            return ExplainRules(request)
    return Rules()


class EventChecker:
    """Checks the output of one request, step by step; raises EventProtocolError."""

    def __init__(self, request: Request) -> None:
        self.finished = False
        self._rules = rules_for(request)
        self._choices = range(request.n if isinstance(request, (GenerationRequest, ImageRequest)) else 1)
        self._started = False
        # The choices whose TextDelta events need no further check: none before Started and after Finished.
        self._unchecked_choices = range(0)

    def check_step(self, step: object) -> None:
        """Check what a model yielded, which may be None."""
        # Fast path: nearly all events are text.
        if step is None or (type(step) is TextDelta and step.choice in self._unchecked_choices):
            return
        if not isinstance(step, Event):
            raise EventProtocolError(f"the model yielded {step!r}, which is not an Event")
        for event in iter_events(step):
            if type(event) is not TextDelta or event.choice not in self._unchecked_choices:
                self._check(event)

    def check_end(self) -> None:
        """Check that the output is complete, after the model's generator has returned."""
        if not self.finished:
            raise EventProtocolError("the model's generator returned without a Finished event")

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
                        f"{_name(event)} has choice {choice} in a request for {len(self._choices)} choices"
                    )
            case Finished():
                self.finished = True
                self._unchecked_choices = range(0)
                self._rules.check_complete()
        self._rules.check(event)

    def _start(self, event: Started) -> None:
        if self._started:
            raise EventProtocolError(f"second {_name(event)}")
        if not isinstance(event, self._rules.started):
            raise EventProtocolError(f"{_name(event)}, expected {self._rules.started.__name__}")
        self._started = True
        if type(self._rules) is Rules:
            self._unchecked_choices = self._choices


def _name(event: Event) -> str:
    return type(event).__name__

"""What a model says while it answers: frozen, picklable dataclasses, in the order Started, any others, Finished.

A model yields them; the engine carries them; the host turns their text into content, reasoning and tool calls. A
backend with another kind of answer derives its own events from Event; Started and Finished frame every answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

StopReason = Literal["stop", "length"]


class Event:
    """The base of everything that a model can yield.

    Every event but Started, Progress, Echoed, ChoiceFinished and Finished is output: the first one sets the time to
    first token, and of a streamed response it also ends the queue timeout.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """The request is accepted: nothing before this event has reached the client, so a refusal comes in its place.

    `cached_tokens` of the `prompt_tokens` need no prefill. `generation_prompt` is what the chat template appended after the
    last message; it tells the parser whether the prompt already opened the reasoning.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    generation_prompt: str = ""


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """How far a request is while there is no output yet: `done` of `total` units of a `stage`, for one choice.

    `stage` is a word for users, such as "prefill" (tokens) or "image" (steps). Progress is never output: it does not
    count as the first token and does not end the queue timeout. Stages of a plugin need no event of their own.
    """

    stage: str
    done: float
    total: float | None = None
    choice: int = 0

    def __str__(self) -> str:
        """Describe the progress in a few words, as keep-alive comments do."""
        if self.total is None:
            return f"{self.stage} {self.done:g}" if self.done else self.stage
        return f"{self.stage} {self.done:g}/{self.total:g}"


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One candidate token: its text, its natural log-probability and its bytes."""

    token: str
    logprob: float
    bytes: bytes


@dataclass(frozen=True, slots=True)
class Logprobs:
    """The token that was chosen and the most likely candidates, best first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta(Event):
    """A piece of answer number `choice`: whole characters, `tokens` tokens' worth; the text may be empty."""

    text: str
    tokens: int = 1
    choice: int = 0
    logprobs: tuple[Logprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptEcho(Event):
    """The prompt that was to be echoed, before any text; it is the beginning of every choice.

    `logprobs`, if they were asked for, are those of its tokens, each given the ones before it. The first follows
    nothing: its log-probability is 0, and there are no candidates.
    """

    text: str
    logprobs: tuple[Logprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Tokenized(Event):
    """The ids of a prompt's tokens, and how the vocabulary writes each of them."""

    tokens: tuple[int, ...]
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChoiceFinished(Event):
    """Answer number `choice` is complete while others still run; only a request with n > 1 needs it.

    `stop` is core's: the stop string that ended it, if one did.
    """

    reason: StopReason
    choice: int
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingBatch(Event):
    """The vectors of the inputs number `indices`, one after another: float32, little-endian, all of one length."""

    indices: tuple[int, ...]
    vectors: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Event):
    """The request is done; answers without a ChoiceFinished of their own end here, for this reason.

    `stop` is core's: the stop string that ended the last of them, if one did.
    """

    reason: StopReason = "stop"
    completion_tokens: int = 0
    stop: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionStarted(Started):
    """A Started that says what was heard: seconds of audio, and the language by its English name in lower case.

    `prompt_tokens` are the positions of the encoder's output that the audio takes, and the tokens of the prompt.
    """

    duration: float
    language: str


@dataclass(frozen=True, slots=True)
class Word:
    """A word and when it is spoken, in seconds from the beginning."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment(TextDelta):
    """A piece of a transcript that is spoken from `start` to `end`, in seconds; the texts of all make the whole.

    `seek` is the frame (of 10 ms) where the decoded window begins. All numbers are finite.
    """

    start: float
    end: float
    seek: int
    token_ids: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesStarted(Started):
    """A Started that says how the pictures are made: their size in pixels, and in how many steps each of them.

    `prompt_tokens` are those of the text and `image_tokens` patches of 16 by 16 pixels of the images that came with it.
    """

    width: int
    height: int
    steps: int
    image_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PartialImage(Event):
    """Picture number `image` as it looks by now, for the `index`th time: a file in the format that was asked for."""

    image: int
    index: int
    content: bytes = field(repr=False)
    transparent: bool = False


@dataclass(frozen=True, slots=True)
class ImageCompleted(Event):
    """Picture number `image` as a file, the seed that makes it again, and how many patches make it up, as tokens."""

    image: int
    seed: int
    tokens: int
    content: bytes = field(repr=False)
    transparent: bool = False


@dataclass(frozen=True, slots=True)
class EventBatch(Event):
    """What came together and is said in one turn, in this order; the last may be Finished."""

    events: tuple[Event, ...]


def iter_events(said: Event) -> tuple[Event, ...]:
    """The events that were said in one turn."""
    return said.events if isinstance(said, EventBatch) else (said,)

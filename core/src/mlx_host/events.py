"""The events that a model yields for a request: Started first, Finished last; frozen, picklable dataclasses.

The host parses their text into content, reasoning and tool calls. A backend with another kind of output defines its
own subclasses of Event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

StopReason = Literal["stop", "length"]


class Event:
    """Base class of all events.

    Every event except Started, Progress, PromptEcho, ChoiceFinished and Finished is output. The first output event
    determines the time to first token; of a streaming request it also ends the queue timeout.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """The model has accepted the request; to reject it, raise a RequestError instead.

    `cached_tokens` is the number of `prompt_tokens` that a prefix cache provided. `generation_prompt` is the text that
    the chat template appended after the last message, for example "<|assistant|><think>"; from it, the parser detects
    whether the prompt has already opened the reasoning. `warning` is sent to the client in `x-mlx-host-warning`, for
    example if a part of the input has no effect.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    generation_prompt: str = ""
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """Progress before the output: `done` of `total` units of a stage, for one choice.

    `stage` is shown to users: "prefill" (in tokens), "image" (in steps), or any name that a plugin chooses. Progress
    is not output: it does not count as the first token and does not end the queue timeout.
    """

    stage: str
    done: float
    total: float | None = None
    choice: int = 0

    def __str__(self) -> str:
        """Format the progress for keep-alive comments, for example "prefill 512/2048"."""
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
    """The sampled token and the most likely candidates, in descending order."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta(Event):
    """Generated text of one choice.

    The text consists of whole characters and may be empty. `token_count` is the number of its tokens.
    """

    text: str
    token_count: int = 1
    choice: int = 0
    logprobs: tuple[Logprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptEcho(Event):
    """The prompt, for requests with `echo`; precedes the text of every choice.

    `logprobs`, if requested, has one entry for each prompt token, given the tokens before it. The first token has the
    log-probability 0 and no candidates.
    """

    text: str
    logprobs: tuple[Logprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Tokenized(Event):
    """The output of a TokenizeRequest: the token ids, and the vocabulary entry of each."""

    tokens: tuple[int, ...]
    token_strs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenCount(Event):
    """The output of a TokenizeRequest with `count_only`."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained(Event):
    """The output of an ExplainRequest.

    `messages` and `tools` are those that the chat template renders, `prompt` is the rendered text and
    `generation_prompt` its last part, as in Started. `cached_tokens` is the number of `prompt_tokens` that the prefix
    cache has now. `adaptations` describe how `messages` and `tools` differ from the request. `dropped` has a reason for
    each field of the request that is not in the prompt. `grammar` constrains the output.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]
    prompt: str
    generation_prompt: str
    prompt_tokens: int
    cached_tokens: int = 0
    adaptations: Sequence[str] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class TokenizerInfo(Event):
    """The output of a TokenizerInfoRequest: the tokenizer's configuration as JSON values.

    It contains at least `tokenizer_class` and `chat_template`.
    """

    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChoiceFinished(Event):
    """One choice of a request with n > 1 is complete while others are still running.

    Core sets `stop` to the stop string that ended the choice, if any; models leave it None.
    """

    reason: StopReason
    choice: int
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingBatch(Event):
    """The embeddings of the inputs `indices`.

    `vectors` holds them in that order: concatenated little-endian float32 vectors of equal length.
    """

    indices: tuple[int, ...]
    vectors: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Event):
    """The request is complete; `reason` applies to every choice that had no ChoiceFinished.

    `completion_tokens` counts the tokens of all choices. Core sets `stop` to the stop string that ended the last
    choice, if any; models leave it None.
    """

    reason: StopReason = "stop"
    completion_tokens: int = 0
    stop: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionStarted(Started):
    """Started of a transcription.

    `duration` is the length of the audio in seconds, `language` the English name in lower case. `prompt_tokens` counts
    the encoder positions of the audio and the tokens of the prompt.
    """

    duration: float
    language: str


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its start and end, in seconds from the start of the audio."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment(TextDelta):
    """A transcript segment, as in OpenAI's `verbose_json`; the texts of all segments form the transcript.

    `start` and `end` are in seconds; `seek` is the first frame (10 ms each) of the decoded window. All numbers are
    finite.
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
    """Started of an image request: the size of the images in pixels, and the number of steps for each.

    `image_tokens` is the number of patches (16 by 16 pixels) of the input images; `prompt_tokens` includes it.
    """

    width: int
    height: int
    steps: int
    image_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PartialImage(Event):
    """A preview of an unfinished image.

    `image` is the number of the image and `index` that of the preview, both from 0. `content` is a file in the
    requested format.
    """

    image: int
    index: int
    content: bytes = field(repr=False)
    transparent: bool = False


@dataclass(frozen=True, slots=True)
class ImageCompleted(Event):
    """A finished image.

    `image` is its number, from 0; `seed` reproduces it. `token_count` is the number of its patches. `content` is a
    file in the requested format.
    """

    image: int
    seed: int
    token_count: int
    content: bytes = field(repr=False)
    transparent: bool = False


@dataclass(frozen=True, slots=True)
class EventBatch(Event):
    """Several events of one step, in order; the last may be Finished."""

    events: tuple[Event, ...]


def iter_events(event: Event) -> tuple[Event, ...]:
    """Return the events of an EventBatch, or the event itself."""
    return event.events if isinstance(event, EventBatch) else (event,)

"""The event protocol: for each rule, an output that violates it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from mlx_host._engine.event_checker import EventChecker, EventProtocolError
from mlx_host.events import (
    ChoiceFinished,
    EmbeddingBatch,
    EventBatch,
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
)
from mlx_host.requests import (
    ChatRequest,
    EmbeddingRequest,
    ImageGenerationRequest,
    Request,
    TokenizeRequest,
    TranscriptionRequest,
)

START = Started(prompt_tokens=1)
IMAGES = ImagesStarted(prompt_tokens=1, width=8, height=8, steps=1)
TRANSCRIPT = TranscriptionStarted(prompt_tokens=1, duration=1.0, language="english")
END = Finished()


def chat(n: int = 1) -> ChatRequest:
    return ChatRequest(id="r", model="m", messages=[], n=n)


def embed(*inputs: str, dimensions: int | None = None) -> EmbeddingRequest:
    return EmbeddingRequest(id="r", model="m", inputs=inputs, dimensions=dimensions)


def images(n: int) -> ImageGenerationRequest:
    return ImageGenerationRequest(id="r", model="m", prompt="p", seed=1, n=n)


def segment() -> Segment:
    numbers: dict[str, Any] = dict.fromkeys(
        ("start", "end", "seek", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob"), 0
    )
    return Segment("a", token_ids=(), **numbers)


AUDIO = TranscriptionRequest(id="r", model="m", audio=b"")
TOKENIZE = TokenizeRequest(id="r", model="m", prompt="p")
COUNT = replace(TOKENIZE, count_only=True)
FLOAT = b"\0\0\0\0"


def check(request: Request, steps: Sequence[object]) -> None:
    checker = EventChecker(request)
    for step in steps:
        checker.check_step(step)
    checker.check_end()


@pytest.mark.parametrize(
    ("request_", "steps"),
    [
        (chat(), [None, START, None, Progress("prefill", 1, 2), TextDelta("a"), EventBatch(()), END]),
        (chat(), [EventBatch((START, TextDelta("a"), END))]),
        (
            chat(2),
            [
                START,
                TextDelta("a", choice=1),
                ChoiceFinished("stop", 1),
                TextDelta("late", choice=1),
                TextDelta("b"),
                END,
            ],
        ),
        (embed("a", "b", "c"), [START, EmbeddingBatch((2, 0), FLOAT * 4), EmbeddingBatch((1,), FLOAT * 2), END]),
        (embed("a", dimensions=2), [START, EmbeddingBatch((0,), FLOAT * 2), END]),
        (images(2), [IMAGES, PartialImage(0, 0, b""), ImageCompleted(1, 1, 1, b""), ImageCompleted(0, 1, 1, b""), END]),
        (AUDIO, [TRANSCRIPT, Progress("audio", 1, 2), segment(), END]),
        (TOKENIZE, [START, Tokenized((1, 2), ("a", "b")), END]),
        (COUNT, [START, Tokenized((1, 2), ("a", "b")), END]),
        (COUNT, [START, TokenCount(2), END]),
        (Request(id="r", model="m"), [START, TextDelta("whatever"), END]),
    ],
)
def test_output_that_follows_the_protocol_passes(request_: Request, steps: Sequence[object]) -> None:
    check(request_, steps)


@pytest.mark.parametrize(
    ("request_", "steps", "message"),
    [
        (chat(), ["hello"], "'hello', which is not an Event"),
        (chat(), [TextDelta("a")], "TextDelta before Started"),
        (chat(), [EventBatch((TextDelta("a"), START))], "TextDelta before Started"),
        (chat(), [Progress("prefill", 0, 1)], "Progress before Started"),
        (chat(), [END], "Finished before Started"),
        (chat(), [START, START], "second Started"),
        (chat(), [START, TextDelta("a")], "without a Finished event"),
        (chat(), [], "without a Finished event"),
        (chat(), [START, END, TextDelta("a")], "TextDelta after Finished"),
        (chat(), [START, END, END], "Finished after Finished"),
        (chat(), [START, EventBatch((TextDelta("a"), END, TextDelta("b")))], "TextDelta after Finished"),
        (chat(), [START, TextDelta("a", choice=1)], "TextDelta has choice 1 in a request for 1"),
        (chat(2), [START, TextDelta("a", choice=-1)], "TextDelta has choice -1 in a request for 2"),
        (chat(2), [START, ChoiceFinished("stop", 2)], "ChoiceFinished has choice 2 in a request for 2"),
        (chat(), [START, Progress("prefill", 1, 2, choice=3)], "Progress has choice 3 in a request for 1"),
        (embed("a", "b"), [START, EmbeddingBatch((), b"")], "EmbeddingBatch has no indices"),
        (embed("a", "b"), [START, EmbeddingBatch((9,), FLOAT)], "index 9 in a request with 2 inputs"),
        (embed("a", "b"), [START, EmbeddingBatch((-1,), FLOAT)], "index -1 in a request with 2 inputs"),
        (embed("a"), [START, EmbeddingBatch((0, 0), FLOAT * 2)], "a second vector for input 0"),
        (embed("a"), [START, EmbeddingBatch((0,), b"")], "0 bytes for 1 float32 vectors"),
        (embed("a", "b"), [START, EmbeddingBatch((0, 1), FLOAT * 3 + b"\0\0")], "14 bytes for 2 float32 vectors"),
        (embed("a", "b"), [START, EmbeddingBatch((0, 1), FLOAT + b"\0")], "5 bytes for 2 float32 vectors"),
        (
            embed("a", "b"),
            [START, EmbeddingBatch((0,), FLOAT), EmbeddingBatch((1,), FLOAT * 2)],
            "2 dimensions, expected 1",
        ),
        (embed("a", dimensions=3), [START, EmbeddingBatch((0,), FLOAT)], "1 dimensions, expected 3"),
        (embed("a", "b"), [START, EmbeddingBatch((0,), FLOAT), END], "without vectors for 1 of 2 inputs.*input 1"),
        (images(1), [START], "Started, expected ImagesStarted"),
        (images(1), [IMAGES, ImageCompleted(1, 1, 1, b"")], "ImageCompleted has image 1 in a request for 1"),
        (
            images(1),
            [IMAGES, ImageCompleted(0, 1, 1, b""), PartialImage(0, 0, b"")],
            "image 0, which is already completed",
        ),
        (images(2), [IMAGES, ImageCompleted(0, 1, 1, b""), END], "Finished without image 1 in a request for 2"),
        (AUDIO, [START], "Started, expected TranscriptionStarted"),
        (AUDIO, [TRANSCRIPT, TextDelta("a")], "expected Segment"),
        (TOKENIZE, [START, Tokenized((1, 2), ("a",))], "1 token_strs for 2 tokens"),
        (TOKENIZE, [START, END], "Finished without Tokenized"),
        (TOKENIZE, [START, TokenCount(2)], "TokenCount in a request for the tokens"),
    ],
)
def test_each_violation_is_named(request_: Request, steps: Sequence[object], message: str) -> None:
    with pytest.raises(EventProtocolError, match=message):
        check(request_, steps)

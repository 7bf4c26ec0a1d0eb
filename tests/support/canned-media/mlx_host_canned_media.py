"""A backend for API tests with fixed output: a vector per input, a transcript of two segments, images of a few bytes.

The input "reject" and the prompt "reject" are rejected.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, Model, Options
from mlx_host.errors import InvalidRequestError
from mlx_host.events import (
    EmbeddingBatch,
    Event,
    Finished,
    ImageCompleted,
    ImagesStarted,
    Segment,
    Started,
    TranscriptionStarted,
)
from mlx_host.requests import (
    EmbeddingRequest,
    ImageEditRequest,
    ImageGenerationRequest,
    ImageRequest,
    Request,
    TranscriptionRequest,
    TranslationRequest,
)

SUPPORTED = (EmbeddingRequest, TranscriptionRequest, TranslationRequest, ImageGenerationRequest, ImageEditRequest)


class CannedModel(Model):
    supported_requests = SUPPORTED
    concurrency = 4

    def generate(self, request: Request) -> Iterator[Event | None]:
        match request:
            case EmbeddingRequest(inputs=inputs):
                _reject("reject" in inputs, "input")
                yield Started(prompt_tokens=len(inputs))
                vectors = [value for text in inputs for value in (float(len(text)), 1.0)]
                yield EmbeddingBatch(tuple(range(len(inputs))), struct.pack(f"<{len(vectors)}f", *vectors))
                yield Finished()
            case TranscriptionRequest(prompt=prompt):
                _reject(prompt == "reject", "prompt")
                yield TranscriptionStarted(prompt_tokens=1, duration=2.0, language="english")
                yield _segment(" Hello", 0.0)
                yield _segment(f" {request.task}.", 1.0)
                yield Finished(completion_tokens=2)
            case ImageRequest(prompt=prompt, n=n, seed=seed):
                _reject(prompt == "reject", "prompt")
                yield ImagesStarted(prompt_tokens=1, width=16, height=16, steps=1)
                for number in range(n):
                    yield ImageCompleted(number, seed + number, 1, f"{prompt} {number}".encode())
                yield Finished(completion_tokens=n)


def _reject(rejected: bool, param: str) -> None:
    if rejected:
        raise InvalidRequestError(f"{param}: rejected by the model", param=param)


def _segment(text: str, start: float) -> Segment:
    return Segment(
        text=text,
        start=start,
        end=start + 1,
        seek=0,
        token_ids=(1,),
        temperature=0.0,
        avg_logprob=-0.5,
        compression_ratio=1.0,
        no_speech_prob=0.0,
    )


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [Backend("canned", lambda context: CannedModel(), Options, supported_requests=SUPPORTED, needs_model=False)]

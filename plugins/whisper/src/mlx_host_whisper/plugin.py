"""Registers the backend `whisper`: speech to text on mlx-whisper."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model
from mlx_host.requests import TranscriptionRequest, TranslationRequest

from mlx_host_whisper.options import WhisperOptions


def load(request: LoadContext[WhisperOptions]) -> Model:
    # mlx-whisper takes seconds to import, and naming a backend must cost nothing.
    from mlx_host_whisper.model import load_model

    return load_model(request)


WHISPER = Backend(
    name="whisper",
    load=load,
    options=WhisperOptions,
    supported_requests=(TranscriptionRequest, TranslationRequest),
    # One file at a time is quickest for all: windows are not batched, and a file may be an hour long.
    settings={"max_concurrency": 1, "queue_size": 50, "queue_timeout": 600},
    summary="speech to text on mlx-whisper: transcription and translation, streamed by the segment",
)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [WHISPER]

"""Registers the backend `whisper`: speech-to-text with mlx-whisper."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model, read_config
from mlx_host.requests import TranscriptionRequest, TranslationRequest

from mlx_host_whisper.options import WhisperOptions


def load(context: LoadContext[WhisperOptions]) -> Model:
    """Load the model; imports mlx-whisper, which takes seconds, only now."""
    from mlx_host_whisper.model import load_model

    return load_model(context)


def accepts(path: Path) -> str | None:
    """Return why mlx-whisper cannot load a model; None if it can."""
    config = read_config(path)
    if config is None:
        return "it has no readable config.json"
    if "n_mels" not in config:
        return "its config.json is not one of a Whisper model in mlx-whisper's format"
    return None


WHISPER = Backend(
    name="whisper",
    load=load,
    options=WhisperOptions,
    supported_requests=(TranscriptionRequest, TranslationRequest),
    # Windows are not batched, so concurrent files would only delay each other, and a file can be an hour long.
    settings={"max_concurrency": 1, "queue_size": 50, "queue_timeout": 600},
    accepts=accepts,
    examples=("demo:whisper-tiny.en", "mlx-community/whisper-large-v3-turbo"),
    summary="speech-to-text with mlx-whisper: transcription and translation, streamed segment by segment",
)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [WHISPER]

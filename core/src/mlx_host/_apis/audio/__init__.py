"""OpenAI's Audio API: transcription and translation of speech, as one response or a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_host.api import Api, ApiSettings, Service
from mlx_host.requests import TranscriptionRequest, TranslationRequest

if TYPE_CHECKING:
    from mlx_host.api import Endpoints


def create(service: Service, settings: ApiSettings) -> Endpoints:
    """Create the endpoints."""
    from mlx_host._apis.audio.routes import AudioEndpoints

    return AudioEndpoints(service)


AUDIO = Api(
    name="audio",
    settings=ApiSettings,
    create=create,
    prefixes=("/v1/audio",),
    request_types=(TranscriptionRequest, TranslationRequest),
    summary="OpenAI's audio transcription and translation",
)

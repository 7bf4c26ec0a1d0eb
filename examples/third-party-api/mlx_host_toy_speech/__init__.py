"""Text to speech without weights, as an mlx-host plugin: every character becomes a tone."""

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mlx_host import hookimpl
from mlx_host.api import Api, ApiSettings, Endpoints, Service
from mlx_host.backend import Backend, Model, Options
from mlx_host.events import Event, Finished, Started
from mlx_host.requests import Request
from pydantic import Field

SAMPLE_RATE = 24_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRequest(Request):
    task = "speech"
    text: str
    pitch: float  # of the lowest tone, in hertz


@dataclass(frozen=True, slots=True)
class AudioChunk(Event):
    pcm: bytes  # mono, 16-bit little-endian samples


class ToneModel(Model):
    supported_requests = (SpeechRequest,)
    concurrency = 4

    def generate(self, request: SpeechRequest) -> Iterator[Event | None]:
        yield Started(prompt_tokens=len(request.text))
        for sentence in re.findall(r"[^.!?]+[.!?]*|[.!?]+", request.text):
            yield AudioChunk(b"".join(tone(request.pitch * 2 ** (ord(character) % 12 / 12)) for character in sentence))
        yield Finished()


def tone(frequency: float) -> bytes:
    step = 2 * math.pi * frequency / SAMPLE_RATE
    return b"".join(struct.pack("<h", round(8000 * math.sin(step * n))) for n in range(SAMPLE_RATE // 20))


class SpeechSettings(ApiSettings):
    max_characters: int = Field(
        4096, ge=1, description="Maximum length of the input; longer input is rejected with a 400."
    )


def create(service: Service, settings: SpeechSettings) -> Endpoints:
    from mlx_host_toy_speech.routes import SpeechEndpoints

    return SpeechEndpoints(service, settings)


@hookimpl
def register_backends() -> list[Backend[Options]]:
    return [Backend("tones", lambda context: ToneModel(), Options, (SpeechRequest,), needs_model=False)]


@hookimpl
def register_apis() -> list[Api[SpeechSettings]]:
    prefixes, requests = ("/v1/audio/speech",), (SpeechRequest,)
    return [Api(name="speech", settings=SpeechSettings, create=create, prefixes=prefixes, request_types=requests)]

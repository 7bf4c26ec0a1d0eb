import logging
import struct
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from fastapi import APIRouter, Request, Response
from mlx_host.api import Deadline, Endpoints, Service
from mlx_host.api.http import Encoder, RawBytes, caller, ignored_fields, ignored_header, new_router, respond
from mlx_host.errors import InvalidRequestError
from mlx_host.events import Event, Started
from pydantic import BaseModel, ConfigDict, Field

from mlx_host_toy_speech import SAMPLE_RATE, AudioChunk, SpeechRequest, SpeechSettings

# The header of a WAV file whose length is not known yet.
FORMAT = (16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
WAV_HEADER = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 2**32 - 1, b"WAVEfmt ", *FORMAT, b"data", 2**32 - 1)


class SpeechBody(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str = ""
    input: str = Field(min_length=1)
    voice: Literal["low", "high"] = "low"
    response_format: Literal["wav", "pcm"] = "wav"


class AudioEncoder(Encoder[Event]):
    def __init__(self, response_format: Literal["wav", "pcm"]) -> None:
        self.framing = RawBytes(f"audio/{response_format}")
        self.header = WAV_HEADER if response_format == "wav" else b""

    def encode(self, events: Sequence[Event]) -> list[bytes]:
        chunks = [event.pcm for event in events if isinstance(event, AudioChunk)]
        return [self.header, *chunks] if isinstance(events[0], Started) else chunks


class SpeechEndpoints(Endpoints):
    def __init__(self, service: Service, settings: SpeechSettings) -> None:
        self.service, self.settings = service, settings

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        logging.getLogger(__name__).info("speech: up to %d characters", self.settings.max_characters)
        yield

    def router(self) -> APIRouter:
        router = new_router()

        @router.post("/v1/audio/speech", response_model=None)
        async def speech(body: SpeechBody, http: Request) -> Response:
            length, limit = len(body.input), self.settings.max_characters
            if length > limit:
                raise InvalidRequestError(f"input has {length} characters; the maximum is {limit}.", param="input")
            pitch = {"low": 110.0, "high": 440.0}[body.voice]
            request = SpeechRequest(id=f"speech-{uuid.uuid4().hex}", model=body.model, text=body.input, pitch=pitch)
            reply = self.service.submit(request, caller=caller(http), deadline=Deadline.FIRST_OUTPUT)
            headers = ignored_header(ignored_fields(body))
            return await respond(http, reply, AudioEncoder(body.response_format), headers)

        return router

"""POST /v1/audio/transcriptions and /v1/audio/translations."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlx_host._apis.audio.examples import REQUEST, RESPONSE, STREAM
from mlx_host._apis.audio.request import transcription_request
from mlx_host._apis.audio.response import TranscriptCollector, TranscriptEncoder
from mlx_host._apis.audio.schema import form_schema
from mlx_host.api import Deadline, Endpoints, Service
from mlx_host.api.http import caller, examples, ignored_header, new_router, read_form, respond
from mlx_host.requests import TranscriptionRequest, TranslationRequest

FORM = "multipart/form-data"


class AudioEndpoints(Endpoints):
    """The endpoints of the Audio API."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def router(self) -> APIRouter:
        router = new_router()
        described = examples(REQUEST, RESPONSE, request_type=FORM, request_schema=form_schema(), stream=STREAM)
        router.post("/v1/audio/transcriptions", response_model=None, **described)(self.transcribe)
        router.post("/v1/audio/translations", response_model=None, **described)(self.translate)
        return router

    async def transcribe(self, http: Request) -> Response:
        """Transcribe audio in its original language."""
        return await self._respond(http, TranscriptionRequest)

    async def translate(self, http: Request) -> Response:
        """Transcribe audio and translate it to English."""
        return await self._respond(http, TranslationRequest)

    async def _respond(self, http: Request, request_type: type[TranscriptionRequest]) -> Response:
        form, request = transcription_request(await read_form(http), request_type)
        reply = self._service.submit(request, caller=caller(http), deadline=Deadline.of(stream=form.stream))
        output = TranscriptEncoder(reply) if form.stream else TranscriptCollector(reply, form)
        return await respond(http, reply, output, ignored_header(form.ignored()))

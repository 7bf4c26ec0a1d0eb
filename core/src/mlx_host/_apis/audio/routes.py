"""POST /v1/audio/transcriptions and /v1/audio/translations: a form with a file in, OpenAI's formats out.

One path for all formats: a transcript is the segments of the stream, added up. Source: the OpenAI SDK's
`types/audio/transcription_create_params.py` and `translation_create_params.py`.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlx_host._apis.audio import subtitles
from mlx_host._host import Exchange, Host
from mlx_host.api import errors, json_io, multipart, sse
from mlx_host.errors import InvalidRequest
from mlx_host.events import Progress, Segment, TranscriptionStarted
from mlx_host.requests import TranscriptionRequest, TranslationRequest

# Fields that a form may hold several times.
LISTS = ("timestamp_granularities", "include", "known_speaker_names", "known_speaker_references")
# What asks for something that no model of ours does; to pass it over would change the answer.
UNSUPPORTED = ("include", "known_speaker_names", "known_speaker_references", "languages", "keywords")


class AudioForm(BaseModel):
    """The fields of the form beside the file; an empty one counts as not given."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    language: str | None = Field(None, max_length=40)
    prompt: str | None = None
    temperature: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    timestamp_granularities: list[Literal["segment", "word"]] = Field(default=[])
    stream: bool = False
    chunking_strategy: Literal["auto"] | None = None

    @property
    def words(self) -> bool:
        return "word" in self.timestamp_granularities

    @property
    def segments(self) -> bool:
        return "segment" in self.timestamp_granularities or not self.words

    def ignored(self) -> list[str]:
        """Name the fields that were given and change nothing here."""
        own_choice = ["chunking_strategy"] if self.chunking_strategy else []
        return sorted([*own_choice, *(self.model_extra or {})])


def read_form(form: multipart.MultipartForm) -> AudioForm:
    """Check a form's fields; InvalidRequest names the first that cannot be honoured."""
    given = {name: [value for value in values if value] for name, values in form.fields.items()}
    values = {name: values if name in LISTS else values[-1] for name, values in given.items() if values}
    for name in UNSUPPORTED:
        if name in values:
            raise InvalidRequest(f"{name} is not supported by this server.", param=name)
    vad = next((name for name in values if name.startswith("chunking_strategy[")), None)
    if vad is not None:
        raise InvalidRequest("chunking_strategy can only be 'auto' here.", param="chunking_strategy")
    try:
        checked = AudioForm.model_validate(values)
    except ValidationError as error:
        raise errors.explain(error.errors()) from None
    if checked.timestamp_granularities and checked.response_format != "verbose_json":
        raise InvalidRequest(
            f"timestamp_granularities needs response_format 'verbose_json', not {checked.response_format!r}.",
            param="timestamp_granularities",
        )
    if checked.stream and checked.response_format not in ("json", "text"):
        raise InvalidRequest(
            f"stream gives text alone; with response_format {checked.response_format!r} it must be false.",
            param="stream",
        )
    return checked


def the_file(form: multipart.MultipartForm) -> bytes:
    """The content of the one file that the form must bring."""
    if "file" in form.fields:
        raise InvalidRequest("file must be sent as a file, with a file name (curl: -F file=@NAME).", param="file")
    files = form.files.get("file", [])
    if len(files) != 1:
        raise InvalidRequest(f"The form must bring one file in the part 'file'; it has {len(files)}.", param="file")
    return files[0].content


class Stripped:
    """Text in pieces without the spaces around the whole."""

    def __init__(self) -> None:
        self.whole = ""
        self._held = ""

    def add(self, piece: str) -> str:
        """Take a piece; return what of it, and of earlier ones, can go out."""
        piece = self._held + (piece if self.whole else piece.lstrip())
        ready = piece.rstrip()
        self._held = piece[len(ready) :]
        self.whole += ready
        return ready


class Transcript:
    """What has been heard so far."""

    def __init__(self, task: Literal["transcribe", "translate"]) -> None:
        self.task = task
        self.duration = 0.0
        self.language = ""
        self.segments: list[Segment] = []
        self._text = Stripped()

    @property
    def text(self) -> str:
        return self._text.whole

    def add(self, event: object) -> str:
        """Take an event; return what it adds to the text."""
        match event:
            case TranscriptionStarted():
                self.duration, self.language = event.duration, event.language
            case Segment():
                self.segments.append(event)
                return self._text.add(event.text)
        return ""

    def verbose(self, form: AudioForm) -> dict[str, Any]:
        """OpenAI's verbose_json."""
        whole = {"task": self.task, "language": self.language, "duration": self.duration, "text": self.text}
        if form.segments:
            whole["segments"] = [_segment(number, segment) for number, segment in enumerate(self.segments)]
        if form.words:
            words = (word for segment in self.segments for word in segment.words)
            whole["words"] = [{"word": word.word.strip(), "start": word.start, "end": word.end} for word in words]
        return {**whole, "usage": self._usage()}

    def _usage(self) -> dict[str, Any]:
        return {"type": "duration", "seconds": self.duration}

    def response(self, form: AudioForm, headers: dict[str, str]) -> Response:
        """The answer in the format that was asked for."""
        match form.response_format:
            case "json":
                return json_io.JsonResponse({"text": self.text, "usage": self._usage()}, headers=headers)
            case "verbose_json":
                return json_io.JsonResponse(self.verbose(form), headers=headers)
            case "text":
                return PlainTextResponse(json_io.utf8(self.text + "\n"), headers=headers)
            case "srt":
                written = json_io.utf8(subtitles.srt(self.segments))
                return PlainTextResponse(written, headers=headers, media_type="application/x-subrip; charset=utf-8")
            case "vtt":
                written = json_io.utf8(subtitles.vtt(self.segments))
                return PlainTextResponse(written, headers=headers, media_type="text/vtt")


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": segment.seek,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": segment.token_ids,
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }


async def collect(exchange: Exchange, transcript: Transcript) -> None:
    """Add an answer up."""
    async with exchange:
        async for events in exchange:
            for event in events:
                transcript.add(event)


async def stream(exchange: Exchange, transcript: Transcript) -> sse.Pieces:
    """Write the text as it comes, and the whole at the end."""
    async with exchange:
        async for events in exchange:
            for event in events:
                if isinstance(event, Progress):
                    yield sse.Comment(f"heard {event.done}/{event.total}")
                if delta := transcript.add(event):
                    yield sse.event({"type": "transcript.text.delta", "delta": delta})
    usage = {
        "type": "tokens",
        "input_tokens": exchange.prompt_tokens,
        "output_tokens": exchange.completion_tokens,
        "total_tokens": exchange.prompt_tokens + exchange.completion_tokens,
    }
    yield sse.event({"type": "transcript.text.done", "text": transcript.text, "usage": usage})


def schema() -> dict[str, Any]:
    """Describe the form for the OpenAPI document; FastAPI sees no more than a request."""
    form = AudioForm.model_json_schema()
    form["properties"]["file"] = {"type": "string", "format": "binary"}
    return {**form, "required": ["file"]}


def routes(router: APIRouter, host: Host) -> None:
    """Add the endpoints."""

    async def answer(http: Request, kind: type[TranscriptionRequest]) -> Response:
        upload = await multipart.read(http)
        form = read_form(upload)
        request = kind(
            id=f"audio-{uuid.uuid4().hex}",
            model=form.model,
            audio=the_file(upload),
            language=form.language,
            prompt=form.prompt,
            temperature=form.temperature,
            words=form.words,
        )
        del upload
        headers = json_io.ignored_header(form.ignored())
        transcript = Transcript("translate" if kind is TranslationRequest else "transcribe")
        exchange = host.ask(request, streams=form.stream)
        if form.stream:
            return sse.EventStream(stream(exchange, transcript), headers, host.settings.keep_alive)
        await sse.while_connected(http.receive, collect(exchange, transcript))
        return transcript.response(form, headers)

    described = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema()}}}}

    @router.post("/v1/audio/transcriptions", response_model=None, openapi_extra=described)
    async def transcriptions(http: Request) -> Response:
        return await answer(http, TranscriptionRequest)

    @router.post("/v1/audio/translations", response_model=None, openapi_extra=described)
    async def translations(http: Request) -> Response:
        return await answer(http, TranslationRequest)

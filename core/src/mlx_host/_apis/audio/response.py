"""Builds a response in one of OpenAI's formats, or a stream, from the events of a transcription.

Source: the OpenAI SDK's `types/audio/transcription_verbose.py` and `transcription_text_delta_event.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastapi.responses import PlainTextResponse, Response

from mlx_host._apis.audio import subtitles
from mlx_host._apis.audio.schema import AudioForm
from mlx_host.api import Reply
from mlx_host.api.http import BackendContractError, Collector, Encoder, JsonResponse, dumps, utf8
from mlx_host.events import Event, Segment, TranscriptionStarted
from mlx_host.requests import TranslationRequest


class StrippedText:
    """Concatenates text and strips white space from both ends; `text` is the result so far."""

    def __init__(self) -> None:
        self.text = ""
        self._trailing_space = ""

    def add(self, text: str) -> str:
        """Append text; return what it adds to the result."""
        text = self._trailing_space + (text if self.text else text.lstrip())
        delta = text.rstrip()
        self._trailing_space = text[len(delta) :]
        self.text += delta
        return delta


class Transcript:
    """The transcript of one request so far.

    A number that is not finite, which JSON cannot represent, raises BackendContractError.
    """

    def __init__(self, reply: Reply[Event]) -> None:
        self.task = "translate" if isinstance(reply.request, TranslationRequest) else "transcribe"
        self.duration = 0.0
        self.language = ""
        self.segments: list[Segment] = []
        self._model = reply.model
        self._text = StrippedText()

    @property
    def text(self) -> str:
        """The text without leading and trailing white space."""
        return self._text.text

    def add(self, event: Event) -> str:
        """Add one event; return what it adds to the text."""
        match event:
            case TranscriptionStarted():
                self.duration, self.language = event.duration, event.language
            case Segment():
                if not all(map(math.isfinite, _numbers(event))):
                    raise BackendContractError(self._model, "returned a segment with a number that is not finite")
                self.segments.append(event)
                return self._text.add(event.text)
        return ""

    @property
    def usage(self) -> dict[str, Any]:
        """The usage object of a non-streaming response, in seconds of audio."""
        return {"type": "duration", "seconds": self.duration}

    def verbose_json(self, form: AudioForm) -> dict[str, Any]:
        """Return the body in OpenAI's format verbose_json."""
        body = {"task": self.task, "language": self.language, "duration": self.duration, "text": self.text}
        if form.segments:
            body["segments"] = [_segment_json(number, segment) for number, segment in enumerate(self.segments)]
        if form.words:
            words = (word for segment in self.segments for word in segment.words)
            body["words"] = [{"word": word.word.strip(), "start": word.start, "end": word.end} for word in words]
        return {**body, "usage": self.usage}


def _numbers(segment: Segment) -> list[float]:
    numbers = [segment.start, segment.end, segment.temperature, segment.avg_logprob]
    numbers += [segment.compression_ratio, segment.no_speech_prob]
    return numbers + [time for word in segment.words for time in (word.start, word.end)]


def _segment_json(number: int, segment: Segment) -> dict[str, Any]:
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


class TranscriptCollector(Collector[Event]):
    """Collects a transcript into a response in the requested format."""

    def __init__(self, reply: Reply[Event], form: AudioForm) -> None:
        self._transcript = Transcript(reply)
        self._form = form

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            self._transcript.add(event)

    async def response(self) -> Response:
        transcript = self._transcript
        match self._form.response_format:
            case "json":
                return JsonResponse({"text": transcript.text, "usage": transcript.usage})
            case "verbose_json":
                return JsonResponse(transcript.verbose_json(self._form))
            case "text":
                return _text_response(f"{transcript.text}\n", "text/plain")
            case "srt":
                return _text_response(subtitles.srt(transcript.segments), "application/x-subrip; charset=utf-8")
            case "vtt":
                return _text_response(subtitles.vtt(transcript.segments), "text/vtt")


def _text_response(text: str, media_type: str) -> Response:
    return PlainTextResponse(utf8(text), media_type=media_type)


class TranscriptEncoder(Encoder[Event]):
    """Streams the text of a transcript as it arrives; the last event has the whole text."""

    def __init__(self, reply: Reply[Event]) -> None:
        self._reply = reply
        self._transcript = Transcript(reply)

    def encode(self, events: Sequence[Event]) -> list[str]:
        deltas = [self._transcript.add(event) for event in events]
        return [dumps({"type": "transcript.text.delta", "delta": delta}) for delta in deltas if delta]

    async def finish(self) -> list[str]:
        prompt_tokens, completion_tokens = self._reply.prompt_tokens, self._reply.completion_tokens
        usage = {
            "type": "tokens",
            "input_tokens": prompt_tokens,
            "output_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }
        return [dumps({"type": "transcript.text.done", "text": self._transcript.text, "usage": usage})]

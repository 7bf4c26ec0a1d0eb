"""The model of the backend `whisper`: a file of speech in, segments of text out."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import ClassVar

from mlx_host.backend import LoadContext, Model
from mlx_host.errors import InvalidRequestError, LoadError, RequestTooLargeError
from mlx_host.events import Event, Finished, Progress, TranscriptionStarted
from mlx_host.requests import Request, TranscriptionRequest, TranslationRequest
from mlx_host_media.audio import AudioLimits
from mlx_host_media.errors import MediaError
from mlx_host_media.pool import DecoderPool

from mlx_host_whisper.mlx_whisper_api import (
    FRAMES_PER_SECOND,
    SAMPLE_RATE,
    WINDOW_FRAMES,
    Spectrogram,
    Whisper,
    language_code,
    language_name,
)
from mlx_host_whisper.options import WhisperOptions
from mlx_host_whisper.transcript import TEMPERATURES, Rules, Transcript

log = logging.getLogger(__name__)

MEGABYTE = 1000 * 1000
# OpenAI's API rejects shorter audio, too.
MIN_SECONDS = 0.1
# A line of the log is worth it when so much more of an audio is done.
PROGRESS_SHARE = 0.1


class WhisperModel(Model):
    """Answers each request window by window, in turn with the others that are open."""

    supported_requests: ClassVar[tuple[type[Request], ...]] = (TranscriptionRequest, TranslationRequest)
    # Each open request holds its audio; the windows are decoded one after the other all the same.
    concurrency = 8

    def __init__(self, whisper: Whisper, options: WhisperOptions) -> None:
        self._whisper = whisper
        self._options = options
        self._decoders = DecoderPool()
        self._audio_limits = AudioLimits(max_seconds=options.max_audio_minutes * 60, min_seconds=MIN_SECONDS)

    def generate(self, request: TranscriptionRequest) -> Iterator[Event | None]:
        size = len(request.audio) / MEGABYTE
        if size > self._options.max_audio_mb:
            raise RequestTooLargeError(
                f"The file has {size:.1f} MB; this model takes {self._options.max_audio_mb:g} MB (--max-audio-mb).",
                param="file",
            )
        language = self._language(request.language or self._options.language)
        try:
            samples = yield from self._decoders.decode_audio(request.audio, SAMPLE_RATE, self._audio_limits)
            audio = self._whisper.spectrogram(samples)
            duration = len(samples) / SAMPLE_RATE
            del samples
            yield from self._answer(request, audio, duration, language)
        except MediaError as error:
            raise error.as_request_error("file", "file") from None
        finally:
            self._whisper.release()

    def _answer(
        self, request: TranscriptionRequest, audio: Spectrogram, duration: float, language: str | None
    ) -> Iterator[Event | None]:
        if language is None:
            language = self._whisper.detect_language(audio.window(0, WINDOW_FRAMES))
        words = self._whisper.words(language, translate=isinstance(request, TranslationRequest))
        transcript = Transcript(
            self._whisper, audio, words, self._rules(request.temperature), request.prompt, request.words
        )
        positions = math.ceil(audio.content * self._whisper.tokens_per_window / WINDOW_FRAMES)
        yield TranscriptionStarted(
            prompt_tokens=positions + transcript.prompt_tokens, duration=duration, language=language_name(language)
        )
        tokens = 0
        progress = ProgressLog(request.id, audio.content)
        for segment in transcript:
            if segment is not None:
                tokens += segment.tokens
                yield segment
                continue
            # Silence, or text that must be decoded again: there is nothing to say, but the model is alive.
            done = min(transcript.seek, audio.content)
            progress.at(done)
            yield Progress("prefill", positions * done // audio.content, positions)
        yield Finished(completion_tokens=tokens)

    def _language(self, name: str | None) -> str | None:
        if name is None:
            return None
        code = language_code(name)
        if code is None:
            raise InvalidRequestError(
                f"language {name!r} is none that Whisper knows; give an ISO 639-1 code such as 'en'.", param="language"
            )
        if code != "en" and not self._whisper.multilingual:
            raise InvalidRequestError(
                f"This model knows English only, not {language_name(code)!r} (language {name!r}); "
                "use a multilingual Whisper for it.",
                param="language",
            )
        return code

    def _rules(self, temperature: float | None) -> Rules:
        own = self._options
        return Rules(
            temperatures=(temperature,) if temperature else TEMPERATURES,
            condition_on_previous_text=own.condition_on_previous_text,
            no_speech_threshold=own.no_speech_threshold,
            logprob_threshold=own.logprob_threshold,
            compression_ratio_threshold=own.compression_ratio_threshold,
        )

    def close(self) -> None:
        self._decoders.close()


class ProgressLog:
    """Logs how far a long audio is, no more often than it is worth; audio of one window is not long."""

    def __init__(self, request: str, frames: int) -> None:
        self._request = request
        self._frames = frames
        self._long = frames > WINDOW_FRAMES
        self._next = PROGRESS_SHARE * frames

    def at(self, done: int) -> None:
        if self._long and (done >= self._next or done == self._frames):
            self._next = done + PROGRESS_SHARE * self._frames
            seconds, all_seconds = done / FRAMES_PER_SECOND, self._frames / FRAMES_PER_SECOND
            log.info("%s: %.0f of %.0f s of audio are transcribed", self._request, seconds, all_seconds)


def load_model(load: LoadContext[WhisperOptions]) -> Model:
    """Load a folder that was converted for mlx-whisper."""
    if load.path is None:
        raise LoadError("The backend 'whisper' needs a model.")
    language = load.options.language
    if language is not None and language_code(language) is None:
        raise LoadError(f"--language {language!r} is none that Whisper knows; give an ISO 639-1 code such as 'en'.")
    load.progress("load", 0, 1, str(load.path))
    whisper = Whisper(load.path, load.options.dtype)
    load.progress("warm-up", 0, 1)
    whisper.warm_up()
    load.progress("warm-up", 1, 1)
    return WhisperModel(whisper, load.options)

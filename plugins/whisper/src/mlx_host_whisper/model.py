"""The model of the backend `whisper`: transcribes or translates an audio file to segments of text."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
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
from mlx_host_whisper.speech_regions import Region, find_speech
from mlx_host_whisper.transcriber import TEMPERATURES, DecodingSettings, Transcriber

log = logging.getLogger(__name__)

MEGABYTE = 1000 * 1000
# The minimum of OpenAI's API.
MIN_SECONDS = 0.1
# Fraction of the audio between two log lines.
LOG_INTERVAL = 0.1


class WhisperModel(Model):
    """Processes each request window by window, alternating with the other active requests."""

    supported_requests: ClassVar[tuple[type[Request], ...]] = (TranscriptionRequest, TranslationRequest)
    # Limits the memory for audio; windows are decoded one at a time.
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
                f"The file has {size:.1f} MB; the maximum is {self._options.max_audio_mb:g} MB (--max-audio-mb).",
                param="file",
            )
        language = self._language(request.language or self._options.language)
        try:
            samples = yield from self._decoders.decode_audio(request.audio, SAMPLE_RATE, self._audio_limits)
            audio = self._whisper.spectrogram(samples)
            duration = len(samples) / SAMPLE_RATE
            regions = find_speech(samples, SAMPLE_RATE) if self._options.skip_silence else [Region(0.0, duration)]
            del samples
            yield from self._transcribe(request, audio, duration, regions, language)
        except MediaError as error:
            raise error.as_request_error("file", "file") from None
        finally:
            self._whisper.release()

    def _transcribe(
        self,
        request: TranscriptionRequest,
        audio: Spectrogram,
        duration: float,
        regions: Sequence[Region],
        language: str | None,
    ) -> Iterator[Event]:
        if language is None:
            language = self._whisper.detect_language(
                audio.window(round(regions[0].start * FRAMES_PER_SECOND), WINDOW_FRAMES)
            )
        tokenizer = self._whisper.task_tokenizer(language, translate=isinstance(request, TranslationRequest))
        settings = self._decoding_settings(request.temperature)
        transcriber = Transcriber(
            self._whisper, audio, tokenizer, settings, request.prompt, request.word_timestamps, regions
        )
        # The audio is one token per 20 ms.
        positions = math.ceil(audio.content * self._whisper.tokens_per_window / WINDOW_FRAMES)
        yield TranscriptionStarted(
            prompt_tokens=positions + transcriber.prompt_tokens, duration=duration, language=language_name(language)
        )
        tokens = 0
        progress = ProgressLogger(request.id, audio.content)
        for segment in transcriber:
            if segment is not None:
                tokens += segment.token_count
                yield segment
                continue
            # A window or a decoding attempt is finished: report progress even if it was silence.
            done = min(transcriber.seek, audio.content)
            progress.update(done)
            yield Progress("prefill", positions * done // audio.content, positions)
        yield Finished(completion_tokens=tokens)

    def _language(self, name: str | None) -> str | None:
        if name is None:
            return None
        code = language_code(name)
        if code is None:
            raise InvalidRequestError(
                f"Unknown language {name!r}; use an ISO 639-1 code such as 'en'.", param="language"
            )
        if code != "en" and not self._whisper.multilingual:
            raise InvalidRequestError(
                f"This model supports only English, not language {name!r} ({language_name(code)}); use a multilingual "
                "Whisper model.",
                param="language",
            )
        return code

    def _decoding_settings(self, temperature: float | None) -> DecodingSettings:
        options = self._options
        return DecodingSettings(
            temperatures=(temperature,) if temperature else TEMPERATURES,
            condition_on_previous_text=options.condition_on_previous_text,
            no_speech_threshold=options.no_speech_threshold,
            logprob_threshold=options.logprob_threshold,
            compression_ratio_threshold=options.compression_ratio_threshold,
        )

    def close(self) -> None:
        self._decoders.close()


class ProgressLogger:
    """Logs the progress of audio that is longer than one window, at most once per LOG_INTERVAL."""

    def __init__(self, request_id: str, frames: int) -> None:
        self._request_id = request_id
        self._frames = frames
        self._enabled = frames > WINDOW_FRAMES
        self._next = LOG_INTERVAL * frames

    def update(self, done: int) -> None:
        if self._enabled and (done >= self._next or done == self._frames):
            self._next = done + LOG_INTERVAL * self._frames
            seconds, duration = done / FRAMES_PER_SECOND, self._frames / FRAMES_PER_SECOND
            log.info("%s: transcribed %.0f of %.0f s of audio", self._request_id, seconds, duration)


def load_model(context: LoadContext[WhisperOptions]) -> Model:
    """Load a model in mlx-whisper's format. Raises LoadError."""
    if context.path is None:
        raise LoadError("Backend 'whisper' requires a model; set --model.")
    language = context.options.language
    if language is not None and language_code(language) is None:
        raise LoadError(f"--language: unknown language {language!r}; use an ISO 639-1 code such as 'en'.")
    context.progress("load", 0, 1, str(context.path))
    whisper = Whisper(context.path, context.options.dtype)
    context.progress("warm-up", 0, 1)
    whisper.warm_up()
    context.progress("warm-up", 1, 1)
    return WhisperModel(whisper, context.options)

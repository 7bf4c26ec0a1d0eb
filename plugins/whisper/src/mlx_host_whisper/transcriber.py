"""Decodes audio window by window like Whisper and yields the segments of each window as soon as it is decoded.

The algorithm and its results are those of `mlx_whisper.transcribe`, which a test compares, except that long silences
are skipped. A window has 30 seconds, and ends at a long silence. If its tokens end with two timestamps, the next window
starts at the second of them; otherwise after the window.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mlx_host.events import Segment, Word

from mlx_host_whisper.mlx_whisper_api import (
    FRAMES_PER_SECOND,
    WINDOW_FRAMES,
    DecodingResult,
    Spectrogram,
    TaskTokenizer,
    Whisper,
)
from mlx_host_whisper.speech_regions import Region

# Temperature fallback: tried in order until a result passes the thresholds.
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# Text that was sampled at a higher temperature is not used as context of the next window.
MAX_CONTEXT_TEMPERATURE = 0.5
# Reported in place of a log-probability that is not finite.
MIN_LOGPROB = -100.0


@dataclass(frozen=True)
class DecodingSettings:
    """When a window is decoded again or treated as silence, and whether its text is context of the next window."""

    temperatures: tuple[float, ...] = TEMPERATURES
    condition_on_previous_text: bool = True
    no_speech_threshold: float = 0.6
    logprob_threshold: float = -1.0
    compression_ratio_threshold: float = 2.4

    def needs_fallback(self, result: DecodingResult) -> bool:
        """Return whether the text of a window with speech is repetitive or unlikely."""
        if result.no_speech_prob > self.no_speech_threshold:
            return False
        repetitive = result.compression_ratio > self.compression_ratio_threshold
        return bool(repetitive or result.avg_logprob < self.logprob_threshold)

    def is_silence(self, result: DecodingResult) -> bool:
        likely = result.avg_logprob > self.logprob_threshold
        return bool(result.no_speech_prob > self.no_speech_threshold and not likely)


@dataclass(frozen=True)
class SplitWindow:
    """The tokens of a window, split into segments. Positions are in units of 20 ms from the start of the window.

    Args:
        segments: Start, end and tokens of each segment. An end of None is the end of the window.
        next_start: Where the next window starts; None for the end of this one.
        ends_in_silence: Whether the window ends with a single timestamp, after which there is no speech.
    """

    segments: Sequence[tuple[int, int | None, list[int]]]
    next_start: int | None
    ends_in_silence: bool


def split_window(tokens: Sequence[int], first_timestamp: int) -> SplitWindow:
    """Split tokens between adjacent timestamps; text after the last such pair is left to the next window."""
    times = [token - first_timestamp if token >= first_timestamp else None for token in tokens]
    ends_in_silence = len(times) >= 2 and times[-1] is not None and times[-2] is None
    boundaries = [index for index in range(1, len(times)) if times[index] is not None and times[index - 1] is not None]
    if not boundaries:
        last = next((time for time in reversed(times) if time is not None), None)
        return SplitWindow([(0, last or None, list(tokens))], None, ends_in_silence)
    if ends_in_silence:
        boundaries.append(len(tokens))
    segments = [
        (tokens[a] - first_timestamp, tokens[b - 1] - first_timestamp, list(tokens[a:b]))
        for a, b in pairwise([0, *boundaries])
    ]
    return SplitWindow(segments, None if ends_in_silence else segments[-1][1], ends_in_silence)


class Transcriber:
    """Transcribes or translates one audio clip; iterating decodes it.

    `seek` is the frame at which the next window starts. `regions` are the parts to decode, in order; None: all.
    """

    def __init__(
        self,
        whisper: Whisper,
        audio: Spectrogram,
        tokenizer: TaskTokenizer,
        settings: DecodingSettings,
        prompt: str | None,
        word_timestamps: bool,
        regions: Sequence[Region] | None = None,
    ) -> None:
        self.seek = 0
        self._regions = [(0, audio.content)]
        if regions is not None:
            self._regions = [_frames(region, audio.content) for region in regions]
        self._whisper = whisper
        self._audio = audio
        self._tokenizer = tokenizer
        self._settings = settings
        self._word_timestamps = word_timestamps
        self._context = tokenizer.encode_prompt(prompt) if prompt else []
        self._last_speech = 0.0
        duration = audio.content / FRAMES_PER_SECOND
        self._segment_clamp, self._word_clamp = TimestampClamp(duration), TimestampClamp(duration)
        self._frames_per_position = WINDOW_FRAMES // whisper.tokens_per_window

    @property
    def prompt_tokens(self) -> int:
        return len(self._context)

    def __iter__(self) -> Iterator[Segment | None]:
        """Yield the segments, and None after each window and each decoding attempt."""
        for start, end in self._regions:
            self.seek = max(self.seek, start)
            while self.seek < end:
                yield from self._transcribe_window(end)
                yield None
        self.seek = self._audio.content

    def _transcribe_window(self, region_end: int) -> Iterator[Segment | None]:
        size = min(WINDOW_FRAMES, region_end - self.seek)
        window = self._audio.window(self.seek, size)
        result = yield from self._decode(window)
        if self._settings.is_silence(result):
            self.seek += size
            return
        split = split_window(result.tokens, self._tokenizer.first_timestamp)
        segments = [self._segment(start, end, tokens, size) for start, end, tokens in split.segments]
        begin, self.seek = self.seek, self.seek + size
        if split.next_start:  # 0 would decode the same window forever.
            self.seek = begin + split.next_start * self._frames_per_position
        if self._word_timestamps:
            self._add_words(segments, window, begin, size, split.ends_in_silence)
        for segment in segments:
            if segment["start"] == segment["end"] or not segment["text"].strip():
                segment |= {"text": "", "tokens": [], "words": []}
            self._context += segment["tokens"]
            segment["end"] = min(segment["end"], region_end / FRAMES_PER_SECOND)
            yield self._event(segment, begin, result)
        if not self._settings.condition_on_previous_text or result.temperature > MAX_CONTEXT_TEMPERATURE:
            self._context.clear()

    def _decode(self, window: Any) -> Generator[None, None, DecodingResult]:
        """Decode a window with temperature fallback, yielding None between attempts."""
        *earlier, last = self._settings.temperatures
        for temperature in earlier:
            result = self._whisper.decode(window, self._tokenizer, self._context, temperature)
            if not self._settings.needs_fallback(result):
                return result
            yield None
        return self._whisper.decode(window, self._tokenizer, self._context, last)

    def _segment(self, start: int, end: int | None, tokens: list[int], size: int) -> dict[str, Any]:
        """Return a segment as a dict in mlx-whisper's format, which `add_word_timestamps` updates."""
        begin = self.seek / FRAMES_PER_SECOND
        position = self._frames_per_position / FRAMES_PER_SECOND
        return {
            "seek": self.seek,
            "start": begin + start * position,
            "end": begin + (size / FRAMES_PER_SECOND if end is None else end * position),
            "text": self._tokenizer.decode(tokens),
            "tokens": tokens,
            "words": [],
        }

    def _add_words(
        self, segments: list[dict[str, Any]], window: Any, begin: int, size: int, ends_in_silence: bool
    ) -> None:
        """Add word timestamps; the next window then starts at the end of the last word."""
        self._whisper.add_word_timestamps(segments, window, self._tokenizer, size, self._last_speech)
        ends = [word["end"] for segment in segments for word in segment["words"]]
        end = float(ends[-1] if ends else segments[-1]["end"])
        if not ends_in_silence and end > begin / FRAMES_PER_SECOND:
            self.seek = max(round(end * FRAMES_PER_SECOND), begin + 1)
        self._last_speech = end

    def _event(self, segment: dict[str, Any], begin: int, result: DecodingResult) -> Segment:
        start, end = self._segment_clamp.clamp(segment["start"], segment["end"])
        words = [(word["word"], *self._word_clamp.clamp(word["start"], word["end"])) for word in segment["words"]]
        return Segment(
            segment["text"],
            len(segment["tokens"]),
            start=start,
            end=end,
            seek=begin,
            token_ids=tuple(segment["tokens"]),
            temperature=result.temperature,
            avg_logprob=_finite_or(result.avg_logprob, MIN_LOGPROB),
            compression_ratio=_finite_or(result.compression_ratio, 0.0),
            no_speech_prob=_finite_or(result.no_speech_prob, 0.0),
            words=tuple(Word(*word) for word in words),
        )


def _frames(region: Region, content: int) -> tuple[int, int]:
    return round(region.start * FRAMES_PER_SECOND), min(round(region.end * FRAMES_PER_SECOND), content)


class TimestampClamp:
    """Keeps timestamps in order and within the audio: models may generate an end before its start."""

    def __init__(self, duration: float) -> None:
        self._duration = duration
        self._latest_start = 0.0

    def clamp(self, start: float, end: float) -> tuple[float, float]:
        """Return a start that is not before the previous start, and an end that is not before the start."""
        self._latest_start = start = min(max(float(start), self._latest_start), self._duration)
        return start, min(max(float(end), start), self._duration)


def _finite_or(number: float, default: float) -> float:
    """Return `default` for NaN and infinity, which JSON does not support."""
    return float(number) if math.isfinite(number) else default

"""Goes through the windows of an audio as Whisper does, and says each segment as soon as its window is decoded.

The rules are those of `mlx_whisper.transcribe`, and so are the results (a test compares them): a window is 30 seconds;
where the text of one ends with two timestamps, the next begins at the last of them, else behind the window.
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
    Whisper,
    Words,
)

# Tried in turn while the result looks wrong.
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# What was sampled at a higher temperature is no good example for what follows.
HOTTEST_CONTEXT = 0.5
# What stands in for a log-probability that is no number: as good as impossible.
NO_LOGPROB = -100.0


@dataclass(frozen=True)
class Rules:
    """When a window is decoded again or taken for silence, and what the next one sees of it."""

    temperatures: tuple[float, ...] = TEMPERATURES
    condition_on_previous_text: bool = True
    no_speech_threshold: float = 0.6
    logprob_threshold: float = -1.0
    compression_ratio_threshold: float = 2.4

    def wants_another(self, result: DecodingResult) -> bool:
        """Whether the text loops or is unlikely, and there is speech."""
        if result.no_speech_prob > self.no_speech_threshold:
            return False
        loops = result.compression_ratio > self.compression_ratio_threshold
        return bool(loops or result.avg_logprob < self.logprob_threshold)

    def is_silence(self, result: DecodingResult) -> bool:
        likely = result.avg_logprob > self.logprob_threshold
        return bool(result.no_speech_prob > self.no_speech_threshold and not likely)


@dataclass(frozen=True)
class Cut:
    """The tokens of a window, cut into segments: each with its first and last position, None meaning the window's end.

    `next` is the position where the next window begins, None if behind this one. A position is 20 ms.
    """

    pieces: Sequence[tuple[int, int | None, list[int]]]
    next: int | None
    ends_in_silence: bool


def cut(tokens: Sequence[int], first_timestamp: int) -> Cut:
    """Cut where two timestamps meet; text after the last such place is left to the next window."""
    times = [token - first_timestamp if token >= first_timestamp else None for token in tokens]
    # One timestamp at the end, not two, means that nothing is said after it.
    ends_in_silence = len(times) >= 2 and times[-1] is not None and times[-2] is None
    meetings = [place for place in range(1, len(times)) if times[place] is not None and times[place - 1] is not None]
    if not meetings:
        last = next((time for time in reversed(times) if time is not None), None)
        return Cut([(0, last or None, list(tokens))], None, ends_in_silence)
    if ends_in_silence:
        meetings.append(len(tokens))
    pieces = [
        (tokens[a] - first_timestamp, tokens[b - 1] - first_timestamp, list(tokens[a:b]))
        for a, b in pairwise([0, *meetings])
    ]
    return Cut(pieces, None if ends_in_silence else pieces[-1][1], ends_in_silence)


class Transcript:
    """One pass over one audio; `seek` is the frame where the next window begins."""

    def __init__(
        self, whisper: Whisper, audio: Spectrogram, words: Words, rules: Rules, prompt: str | None, time_words: bool
    ) -> None:
        self.seek = 0
        self._whisper = whisper
        self._audio = audio
        self._words = words
        self._rules = rules
        self._time_words = time_words
        self._context = words.encode_prompt(prompt) if prompt else []
        self._last_speech = 0.0
        end = audio.content / FRAMES_PER_SECOND
        self._segment_clock, self._word_clock = Clock(end), Clock(end)
        self._frames_per_position = WINDOW_FRAMES // whisper.tokens_per_window

    @property
    def prompt_tokens(self) -> int:
        return len(self._context)

    def __iter__(self) -> Iterator[Segment | None]:
        """Say every segment; None gives way, between windows and between attempts at one."""
        while self.seek < self._audio.content:
            yield from self._window()
            yield None

    def _window(self) -> Iterator[Segment | None]:
        size = min(WINDOW_FRAMES, self._audio.content - self.seek)
        window = self._audio.window(self.seek, size)
        result = yield from self._decode(window)
        if self._rules.is_silence(result):
            self.seek += size
            return
        found = cut(result.tokens, self._words.first_timestamp)
        segments = [self._segment(*piece, size) for piece in found.pieces]
        begin, self.seek = self.seek, self.seek + size
        if found.next:  # A next window at position 0 would be this one again, without end.
            self.seek = begin + found.next * self._frames_per_position
        if self._time_words:
            self._add_words(segments, window, begin, size, found.ends_in_silence)
        for segment in segments:
            if segment["start"] == segment["end"] or not segment["text"].strip():
                segment |= {"text": "", "tokens": [], "words": []}
            self._context += segment["tokens"]
            yield self._event(segment, begin, result)
        if not self._rules.condition_on_previous_text or result.temperature > HOTTEST_CONTEXT:
            self._context.clear()

    def _decode(self, window: Any) -> Generator[None, None, DecodingResult]:
        """Decode at rising temperatures until a result will do."""
        *earlier, last = self._rules.temperatures
        for temperature in earlier:
            result = self._whisper.decode(window, self._words, self._context, temperature)
            if not self._rules.wants_another(result):
                return result
            yield None
        return self._whisper.decode(window, self._words, self._context, last)

    def _segment(self, first: int, last: int | None, tokens: list[int], size: int) -> dict[str, Any]:
        # A mapping, since mlx-whisper's timing of words fills it in.
        begin = self.seek / FRAMES_PER_SECOND
        position = self._frames_per_position / FRAMES_PER_SECOND
        return {
            "seek": self.seek,
            "start": begin + first * position,
            "end": begin + (size / FRAMES_PER_SECOND if last is None else last * position),
            "text": self._words.decode(tokens),
            "tokens": tokens,
            "words": [],
        }

    def _add_words(
        self, segments: list[dict[str, Any]], window: Any, begin: int, size: int, ends_in_silence: bool
    ) -> None:
        """Time the words; the next window begins where the last of them ends."""
        self._whisper.time_words(segments, window, self._words, size, self._last_speech)
        ends = [word["end"] for segment in segments for word in segment["words"]]
        end = float(ends[-1] if ends else segments[-1]["end"])
        if not ends_in_silence and end > begin / FRAMES_PER_SECOND:
            self.seek = max(round(end * FRAMES_PER_SECOND), begin + 1)
        self._last_speech = end

    def _event(self, segment: dict[str, Any], begin: int, result: DecodingResult) -> Segment:
        start, end = self._segment_clock.put_right(segment["start"], segment["end"])
        timed = [(word["word"], *self._word_clock.put_right(word["start"], word["end"])) for word in segment["words"]]
        return Segment(
            segment["text"],
            len(segment["tokens"]),
            start=start,
            end=end,
            seek=begin,
            token_ids=tuple(segment["tokens"]),
            temperature=result.temperature,
            avg_logprob=_finite(result.avg_logprob, NO_LOGPROB),
            compression_ratio=_finite(result.compression_ratio, 0.0),
            no_speech_prob=_finite(result.no_speech_prob, 0.0),
            words=tuple(Word(*word) for word in timed),
        )


class Clock:
    """Keeps times in order: a model may say that something ends before it begins, or begins before what went before."""

    def __init__(self, end: float) -> None:
        self._end = end
        self._latest = 0.0

    def put_right(self, start: float, end: float) -> tuple[float, float]:
        """Return a start that is no earlier than the last one, and an end no earlier than that; both in the audio."""
        self._latest = start = min(max(float(start), self._latest), self._end)
        return start, min(max(float(end), start), self._end)


def _finite(number: float, otherwise: float) -> float:
    # JSON knows neither NaN nor infinity.
    return float(number) if math.isfinite(number) else otherwise

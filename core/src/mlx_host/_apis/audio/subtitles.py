"""Formats the segments of a transcript as subtitles: SubRip (srt) and WebVTT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlx_host.events import Segment

# The separator between the times of a cue; the text must not contain it.
ARROW = "-->"


def srt(segments: Sequence[Segment]) -> str:
    """Return subtitles in SubRip format: numbered cues, with a comma before the milliseconds."""
    cues = enumerate(_cues(segments), start=1)
    return "".join(
        f"{number}\n{_time(start, ',')} {ARROW} {_time(end, ',')}\n{text}\n\n" for number, (start, end, text) in cues
    )


def vtt(segments: Sequence[Segment]) -> str:
    """Return subtitles in WebVTT format, with & and < escaped."""
    return "WEBVTT\n\n" + "".join(
        f"{_time(start, '.')} {ARROW} {_time(end, '.')}\n{text.replace('&', '&amp;').replace('<', '&lt;')}\n\n"
        for start, end, text in _cues(segments)
    )


def _cues(segments: Sequence[Segment]) -> Iterator[tuple[int, int, str]]:
    """Yield the start and end in milliseconds, and the text on one line, of each segment with text."""
    for segment in segments:
        text = " ".join(segment.text.replace(ARROW, "->").split())
        if text:
            start = round(segment.start * 1000)
            yield start, max(round(segment.end * 1000), start + 1), text


def _time(milliseconds: int, separator: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{separator}{milliseconds:03}"

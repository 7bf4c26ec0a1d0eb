"""A subtitle library can parse the written files."""

from __future__ import annotations

import pysubs2
import pytest
from mlx_host._apis.audio import subtitles
from mlx_host.events import Segment


def segment(text: str, start: float, end: float) -> Segment:
    return Segment(
        text,
        start=start,
        end=end,
        seek=0,
        token_ids=(),
        temperature=0,
        avg_logprob=-0.3,
        compression_ratio=1,
        no_speech_prob=0,
    )


SEGMENTS = [
    segment(" Welcome.", 0.0, 2.0),
    segment("", 2.0, 2.0),
    segment(" A line\nthat --> breaks", 59.9995, 61.25),
    segment(" Grüße,\n世界", 3599.999, 3661.5),
]
TIMES = [(0, 2000), (60000, 61250), (3599999, 3661500)]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_a_library_parses_the_written_files(kind: str) -> None:
    written = getattr(subtitles, kind)(SEGMENTS)
    read = list(pysubs2.SSAFile.from_string(written, kind))
    assert [(cue.start, cue.end) for cue in read] == TIMES
    assert [cue.plaintext for cue in read] == ["Welcome.", "A line that -> breaks", "Grüße, 世界"]


def test_srt_is_numbered_without_gaps() -> None:
    assert subtitles.srt(SEGMENTS[:3]) == (
        "1\n00:00:00,000 --> 00:00:02,000\nWelcome.\n\n"
        "2\n00:01:00,000 --> 00:01:01,250\nA line that -> breaks\n\n"
    )  # fmt: skip


def test_vtt_escapes_markup() -> None:
    written = subtitles.vtt([segment(" a < b & c", 0, 1)])
    assert written == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\na &lt; b &amp; c\n\n"


def test_an_empty_transcript_is_a_valid_file() -> None:
    assert subtitles.srt([]) == ""
    assert subtitles.vtt([]) == "WEBVTT\n\n"


def test_a_cue_lasts_at_least_a_millisecond() -> None:
    assert "00:00:01,000 --> 00:00:01,001" in subtitles.srt([segment(" now", 1.0, 1.0)])

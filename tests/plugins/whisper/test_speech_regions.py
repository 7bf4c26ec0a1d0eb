"""Long silences are found by their energy; whatever is louder than the background noise is kept."""

from __future__ import annotations

import numpy as np
import pytest
from mlx_host_media.audio import Samples
from mlx_host_media.audio_decoder import decode_audio
from mlx_host_whisper.speech_regions import PADDING, find_speech

from tests.plugins.whisper.comparison import ONE_HOUR
from tests.support.speech import SAMPLE_RATE, sample, tone


def noise(seconds: float, level: float) -> Samples:
    """White noise at a level in decibels relative to full scale."""
    values = np.random.default_rng(0).normal(size=round(seconds * SAMPLE_RATE))
    return (values * 32768 * 10 ** (level / 20)).astype(np.int16)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def regions(*parts: Samples) -> list[tuple[float, float]]:
    found = find_speech(np.concatenate(parts), SAMPLE_RATE)
    return [(round(region.start, 1), round(region.end, 1)) for region in found]


@pytest.mark.parametrize("background", [None, -70, -50])
def test_long_silences_are_left_out(background: float | None) -> None:
    parts = np.concatenate([silence(12), tone(2), silence(2), tone(1), silence(20), tone(3), silence(5)])
    if background is not None:
        parts += noise(45, background)
    assert regions(parts) == [(12 - PADDING, 17 + PADDING), (37 - PADDING, 40 + PADDING)]


@pytest.mark.parametrize(
    "parts",
    [
        (silence(2), tone(5), silence(2.5), tone(1), silence(2)),
        (tone(40),),
        (silence(10),),
        (noise(10, -30),),
        (noise(10, -80),),
        (silence(0.1),),
    ],
    ids=["pauses", "steady", "silence", "noise", "inaudible", "short"],
)
def test_other_audio_is_kept_whole(parts: tuple[Samples, ...]) -> None:
    seconds = sum(map(len, parts)) / SAMPLE_RATE
    assert regions(*parts) == [(0, round(seconds, 1))]


def test_quiet_speech_is_kept() -> None:
    speech = decode_audio(sample("capital.wav"), SAMPLE_RATE, ONE_HOUR)
    quiet = (speech * 0.02).astype(np.int16)
    assert len(regions(speech, silence(10), quiet, silence(10))) == 2
    assert regions(decode_audio(sample("news.ogg"), SAMPLE_RATE, ONE_HOUR)) == [(0, 32.3)]


def test_an_offset_is_not_sound() -> None:
    parts = np.concatenate([silence(10), tone(2), silence(10)]) + np.int16(500)
    assert regions(parts) == [(10 - PADDING, 12 + PADDING)]


def test_steady_sound_next_to_silence_is_kept() -> None:
    assert regions(silence(20), tone(5), silence(20)) == [(20 - PADDING, 25 + PADDING)]

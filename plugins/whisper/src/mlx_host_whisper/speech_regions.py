"""Finds the parts of an audio clip between long silences.

Whisper loses sentences after a long silence within a window, and invents text for it. Voice-activity detectors that
tell speech from noise need another runtime (ONNX, PyTorch) or are unmaintained. This one only finds silence, by its
energy: what is louder than the background noise is kept, whatever it is, so that quiet speech is not lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from mlx_host_media.audio import Samples

# Frames in which the energy is measured, in seconds: shorter ones vary more in steady noise.
FRAME_SECONDS = 0.03
# A shorter silence is a pause in speech. Silence of PADDING seconds around speech is kept: Whisper loses the first
# sentence of windows that begin with speech at once.
MIN_SILENCE = 3.0
PADDING = 1.0
# Sound pressure in decibels relative to full scale below which nothing is audible.
SILENT_DB = -75.0
# The background noise is at this percentile of the energy, and varies by less than this many decibels.
NOISE_PERCENTILE = 10
NOISE_RANGE_DB = 6.0
# Frames that are converted to floating point at a time, which limits memory.
BLOCK_FRAMES = 4000


@dataclass(frozen=True)
class Region:
    """A part of the audio, in seconds."""

    start: float
    end: float


def find_speech(samples: Samples, rate: int) -> list[Region]:
    """Return the parts of mono audio that are not long silences; all of it if nothing stands out from the noise."""
    whole = Region(0.0, len(samples) / rate)
    size = round(FRAME_SECONDS * rate)
    levels = np.concatenate([np.empty(0, np.float32), *_levels(samples, size)])
    audible = levels > SILENT_DB
    if not audible.any():
        return [whole]
    noise = float(np.percentile(levels[audible], NOISE_PERCENTILE))
    loud = np.flatnonzero(levels > noise + NOISE_RANGE_DB)
    if len(loud) == 0:
        # Steady sound, or speech without pauses next to digital silence.
        loud = np.flatnonzero(audible)
    gaps = np.flatnonzero(np.diff(loud) * FRAME_SECONDS > MIN_SILENCE)
    firsts, lasts = loud[[0, *(gaps + 1)]], loud[[*gaps, len(loud) - 1]]
    starts = [max(0.0, float(first) * FRAME_SECONDS - PADDING) for first in firsts]
    ends = [min(whole.end, float(last + 1) * FRAME_SECONDS + PADDING) for last in lasts]
    # A short silence at the start or the end is kept, as one between two sentences is.
    if starts[0] < MIN_SILENCE - PADDING:
        starts[0] = 0.0
    if whole.end - ends[-1] < MIN_SILENCE - PADDING:
        ends[-1] = whole.end
    return [Region(start, end) for start, end in zip(starts, ends, strict=True)]


def _levels(samples: Samples, size: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the levels of the frames in decibels relative to full scale; the last frame may be incomplete."""
    for start in range(0, len(samples), size * BLOCK_FRAMES):
        block = samples[start : start + size * BLOCK_FRAMES].astype(np.float32) / 32768
        padded = np.pad(block, (0, -len(block) % size), mode="edge").reshape(-1, size)
        # A constant offset is not audible.
        yield 10 * np.log10(np.maximum(padded.var(axis=1), 1e-12))

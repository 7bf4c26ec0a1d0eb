"""Audio samples and their limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Samples = np.ndarray[tuple[int], np.dtype[np.int16]]
"""16-bit mono samples."""

# The supported file formats, by the names that clients use in requests.
FORMATS = ("wav", "mp3", "mpeg", "mpga", "m4a", "mp4", "flac", "ogg", "oga", "opus", "webm")
# Lossy encoders pad audio by up to this many seconds.
PADDING_SECONDS = 0.1


@dataclass(frozen=True)
class AudioLimits:
    """Inclusive limits of the length in seconds; up to PADDING_SECONDS above the maximum are tolerated."""

    max_seconds: float
    min_seconds: float = 0.0

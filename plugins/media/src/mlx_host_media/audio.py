"""Audio samples and their limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Samples = np.ndarray[tuple[int], np.dtype[np.int16]]
"""16-bit samples of one channel."""

# The file formats that are decoded, by the names that clients use in requests.
FORMATS = ("wav", "mp3", "mpeg", "mpga", "m4a", "mp4", "flac", "ogg", "oga", "opus", "webm")
# How much longer lossy encoders make a file than what they were given, in seconds.
PADDING_SECONDS = 0.1


@dataclass(frozen=True)
class AudioLimits:
    """Lengths in seconds, inclusive; lossy encoders may exceed the maximum by their padding."""

    max_seconds: float
    min_seconds: float = 0.0

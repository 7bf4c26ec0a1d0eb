"""Decodes WAV and MP3."""

from __future__ import annotations

import miniaudio  # type: ignore[import-untyped]  # it has no stubs
import numpy as np
import numpy.typing as npt

from mlx_host_vlm.media.unusable import Unusable

Samples = npt.NDArray[np.float32]

# Where a model does not say what it takes: more costs memory for nothing.
MOST_SECONDS = 600.0
# By so much encoders make an MP3 longer than what they are given.
PADDING_SECONDS = 0.1
# What an MP3 may lack of the length that its header says it has.
MISSING_SECONDS = 0.5
# What programs that cannot go back to fill in a WAV's size write in its place is this or more.
UNKNOWN_WAV_SIZE = 0x7FFF_0000


def read_audio(file: bytes, sample_rate: int, most_seconds: float = MOST_SECONDS) -> Samples:
    """Decode to one channel, between -1 and 1; Unusable says why not."""
    if file[:4] == b"RIFF" and len(file) + 1 < 8 + int.from_bytes(file[4:8], "little") < UNKNOWN_WAV_SIZE:
        raise Unusable("it ends early: the file is shorter than it says it is")
    try:
        info = miniaudio.wav_get_info(file) if file[:4] == b"RIFF" else miniaudio.mp3_get_info(file)
        if info.duration > most_seconds + PADDING_SECONDS:
            raise Unusable(
                f"it lasts {info.duration:.1f} seconds, and this model hears {most_seconds:g} at once; "
                "send a shorter piece"
            )
        decoded = miniaudio.decode(
            file, output_format=miniaudio.SampleFormat.FLOAT32, nchannels=1, sample_rate=sample_rate
        )
    except miniaudio.MiniaudioError:
        raise Unusable("its data cannot be read as WAV or MP3") from None
    samples: Samples = np.frombuffer(decoded.samples, np.float32)
    if len(samples) / sample_rate < info.duration - MISSING_SECONDS:
        raise Unusable(
            f"it ends early: of the {info.duration:.1f} seconds that it says it holds, "
            f"{len(samples) / sample_rate:.1f} can be read"
        )
    if not len(samples) or not np.isfinite(samples).all():
        raise Unusable("it holds no sound")
    return samples

"""Generates the samples in this folder with espeak-ng and PyAV: uv run python -m tests.plugins.whisper.samples.make"""

from __future__ import annotations

import io
import subprocess

import av
import numpy as np
from numpy.typing import NDArray

from tests.support.speech import CAPITAL, NEWS, SAMPLES

Waveform = NDArray[np.float64]

RATE = 16_000

FORMATS = {"wav": "pcm_s16le", "mp3": "libmp3lame", "m4a": "aac", "flac": "flac", "ogg": "libopus", "webm": "libopus"}
BITS = {"libmp3lame": 32_000, "aac": 32_000, "libopus": 16_000}


def speak(text: str) -> Waveform:
    """Synthesize speech as samples at 16 kHz, between -1 and 1."""
    wav = subprocess.run(
        ["espeak-ng", "-v", "en-us", "-s", "140", "--stdout", text], check=True, capture_output=True
    ).stdout
    # A piped WAV does not declare its length; the header has 44 bytes.
    samples = np.frombuffer(wav[44 : len(wav) // 2 * 2], np.int16) / 32768
    (rate,) = np.frombuffer(wav[24:28], np.uint32)
    times = np.arange(0, len(samples) / int(rate), 1 / RATE)
    resampled: Waveform = np.interp(times, np.arange(len(samples)) / int(rate), samples)
    return resampled


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * RATE))


def noise(seconds: float) -> Waveform:
    return np.random.default_rng(0).normal(0, 0.004, round(seconds * RATE))


def encode(waveform: Waveform, suffix: str) -> bytes:
    """Encode samples as a file of this format."""
    file = io.BytesIO()
    codec = FORMATS[suffix]
    # Omit the encoder's name and version, so that the files are reproducible.
    with av.open(file, "w", format={"m4a": "mp4"}.get(suffix, suffix), options={"fflags": "+bitexact"}) as container:
        rate = 48_000 if codec == "libopus" else RATE
        stream = container.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        if codec in BITS:
            stream.bit_rate = BITS[codec]
        pcm = (np.clip(waveform, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def main() -> None:
    capital = np.concatenate([silence(0.3), speak(CAPITAL), silence(0.3)])
    for suffix in FORMATS:
        (SAMPLES / f"capital.{suffix}").write_bytes(encode(capital, suffix))
    in_noise = [silence(3), noise(2), capital + noise(len(capital) / RATE), noise(1), silence(3)]
    (SAMPLES / "in-noise.ogg").write_bytes(encode(np.concatenate(in_noise), "ogg"))
    news = [part for sentence in NEWS for part in (speak(sentence), silence(1))]
    (SAMPLES / "news.ogg").write_bytes(encode(np.concatenate(news), "ogg"))


if __name__ == "__main__":
    main()

"""Speech samples in every format, made by `tests/plugins/whisper/samples/make.py`, and synthetic audio."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
from mlx_host_media.audio import Samples

SAMPLES = Path(__file__).parents[1] / "plugins" / "whisper" / "samples"

SAMPLE_RATE = 16_000
FORMATS = ("wav", "mp3", "m4a", "flac", "ogg", "webm")
CAPITAL = "The capital of France is Paris."
NEWS = (
    "Welcome to the morning news.",
    "The weather will be sunny and warm for the rest of the week.",
    "The city council has decided to build a new library near the river.",
    "Thousands of people came to the stadium to watch the game.",
    "The old bridge will be closed until the end of the month.",
    "Please send the letter to my sister on Monday.",
    "Thank you for listening, and have a good day.",
)


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def tone(seconds: float, rate: int = SAMPLE_RATE) -> Samples:
    """A sine of 440 Hz."""
    times = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 440 * times) * 8000).astype(np.int16)


def wav(samples: Samples, rate: int = SAMPLE_RATE, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def spoken(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return ["".join(letter for letter in word if letter.isalnum()) for word in text.lower().split()]

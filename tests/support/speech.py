"""Spoken samples, in every format; `tests/plugins/whisper/samples/make.py` made them."""

from __future__ import annotations

from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "plugins" / "whisper" / "samples"

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


def spoken(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return ["".join(letter for letter in word if letter.isalnum()) for word in text.lower().split()]

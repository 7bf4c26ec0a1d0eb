"""Small pictures and sounds in the shapes that requests hold them in."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (84, 84), mode: str = "RGB") -> Image.Image:
    """A picture that no other seed gives, of patches that are large enough to survive scaling."""
    shape = (4, 4, 3)
    patches = Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), "RGB")
    return patches.resize(size, Image.Resampling.NEAREST).convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def data_url(file: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(file).decode()}"


def picture(seed: int, size: tuple[int, int] = (84, 84)) -> str:
    """The data: URL of a picture."""
    return data_url(encoded(noise(seed, size)))


def picture_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def look(*seeds: int, text: str = "What is it?") -> list[dict[str, Any]]:
    """A message with these pictures and a question."""
    pictures = [picture_part(picture(seed)) for seed in seeds]
    return [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}]


def tone(frequency: float, seconds: float = 0.4, rate: int = 16000) -> bytes:
    """A WAV file with a tone."""
    samples = np.sin(np.arange(int(seconds * rate)) * (2 * np.pi * frequency / rate))
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((samples * 20000).astype("<i2").tobytes())
    return file.getvalue()


def sound_part(file: bytes, form: str = "wav") -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(file).decode(), "format": form}}


def listen(*frequencies: float, seconds: float = 0.4, text: str = "What is it?") -> list[dict[str, Any]]:
    """A message with these tones and a question."""
    sounds = [sound_part(tone(frequency, seconds)) for frequency in frequencies]
    return [{"role": "user", "content": [*sounds, {"type": "text", "text": text}]}]

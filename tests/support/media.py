"""Small images and audio clips, and requests with them."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Generator
from typing import Any, TypeVar

import numpy as np
from PIL import Image

T = TypeVar("T")


def finish(steps: Generator[None, None, T]) -> T:
    """Exhaust a generator and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def noise(seed: int, size: tuple[int, int] = (84, 84), mode: str = "RGB") -> Image.Image:
    """Return an image of random patches that are large enough to survive scaling; each seed gives another image."""
    shape = (4, 4, 3)
    patches = Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), "RGB")
    return patches.resize(size, Image.Resampling.NEAREST).convert(mode)


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def data_url(file: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(file).decode()}"


def image_url(seed: int, size: tuple[int, int] = (84, 84)) -> str:
    """Return the data URL of a random image."""
    return data_url(encoded(noise(seed, size)))


def image_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def look(*seeds: int, text: str = "What is it?") -> list[dict[str, Any]]:
    """Return messages with random images and a question."""
    images = [image_part(image_url(seed)) for seed in seeds]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def tone(frequency: float, seconds: float = 0.4, rate: int = 16000) -> bytes:
    """Return a WAV file of a sine wave."""
    samples = np.sin(np.arange(int(seconds * rate)) * (2 * np.pi * frequency / rate))
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((samples * 20000).astype("<i2").tobytes())
    return file.getvalue()


def audio_part(file: bytes, audio_format: str = "wav") -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(file).decode(), "format": audio_format}}


def listen(*frequencies: float, seconds: float = 0.4, text: str = "What is it?") -> list[dict[str, Any]]:
    """Return messages with tones of these frequencies and a question."""
    clips = [audio_part(tone(frequency, seconds)) for frequency in frequencies]
    return [{"role": "user", "content": [*clips, {"type": "text", "text": text}]}]

"""Decoded images and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

Size = tuple[int, int]
Mode = Literal["RGB", "RGBA"]


@dataclass(frozen=True)
class ImageLimits:
    """An image of more than `max_pixels` is rejected by its header; one of more than `scale_to` is scaled down to it.

    Decoding takes up to 8 bytes a pixel.
    """

    max_pixels: int = 100_000_000
    scale_to: int | None = None


@dataclass(frozen=True)
class DecodedImage:
    """The first frame of an image, upright, 8 bits a channel; `pixels` are rows from the top, without padding.

    `mode` is RGBA only if the caller asked for alpha and the image has transparency; else transparency is composited on
    white. `original_size` is the upright size before scaling. Sizes are (width, height).
    """

    mode: Mode
    size: Size
    original_size: Size
    pixels: bytes | bytearray

    def to_pil(self) -> Image.Image:
        return Image.frombytes(self.mode, self.size, self.pixels)


def on_white(image: Image.Image) -> Image.Image:
    """Composite an image on white, as RGB."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    white.alpha_composite(layer)
    return white.convert("RGB")


def fit_size(size: Size, max_pixels: int) -> Size:
    """The largest size of the same aspect ratio with at most `max_pixels`, no larger than `size`."""
    width, height = size
    if width * height <= max_pixels:
        return size
    factor = (max_pixels / (width * height)) ** 0.5
    return max(1, int(width * factor)), max(1, int(height * factor))

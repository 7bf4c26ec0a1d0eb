"""Decoded images and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

Size = tuple[int, int]
Mode = Literal["RGB", "RGBA"]


@dataclass(frozen=True)
class ImageLimits:
    """Limits for an uploaded image; decoding needs up to 8 bytes per pixel.

    Args:
        max_pixels: Images with more pixels are rejected before decoding, based on their header.
        scale_to: Images with more pixels are scaled down to this number.
    """

    max_pixels: int = 100_000_000
    scale_to: int | None = None


@dataclass(frozen=True)
class DecodedImage:
    """The first frame of an image, with EXIF orientation applied and 8 bits per channel.

    Args:
        mode: RGBA if the alpha channel was requested and the image has transparency. Otherwise RGB, with transparency
            composited on white.
        size: Width and height.
        original_size: Width and height before scaling, with EXIF orientation applied.
        pixels: Rows from top to bottom, without padding.
    """

    mode: Mode
    size: Size
    original_size: Size
    pixels: bytes | bytearray

    def to_pil(self) -> Image.Image:
        return Image.frombytes(self.mode, self.size, self.pixels)


def on_white(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, composited on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    white.alpha_composite(layer)
    return white.convert("RGB")


def fit_size(size: Size, max_pixels: int) -> Size:
    """Scale a size down to at most `max_pixels`, keeping the aspect ratio; smaller sizes are not changed."""
    width, height = size
    if width * height <= max_pixels:
        return size
    factor = (max_pixels / (width * height)) ** 0.5
    return max(1, int(width * factor)), max(1, int(height * factor))

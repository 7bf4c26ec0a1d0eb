"""Decodes pictures: the first frame, upright, in RGB, on white where it is transparent."""

from __future__ import annotations

import io
import struct

from PIL import Image, UnidentifiedImageError

from mlx_host_vlm.media.unusable import Unusable

Image.init()
# Pillow can be built without some of these.
FORMATS = tuple(form for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if form in Image.OPEN)
# More than this is not decoded, even to be scaled down: it would take 400 MB, and as much again if it is transparent.
MOST_DECODED_PIXELS = 100_000_000
# That limit is kept here; Pillow's own warns in the log of what is below, and lets through what is not.
Image.MAX_IMAGE_PIXELS = None
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
# Those that Pillow scales without losing colours.
SCALED_MODES = ("RGB", "RGBA", "L", "LA")
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(file: bytes, most_pixels: int, *, resize: bool) -> Image.Image:
    """Decode a picture, scaled down to `most_pixels` if `resize` allows it; Unusable says why not."""
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            _check_size(image.size, most_pixels, resize)
            # A JPEG can be decoded at half the size or less, which saves most of the work.
            image.draft("RGB", scale_down(image.size, most_pixels))
            image.load()
            turn = _turn(image)
            # Scaled first: of a large picture, each step after that would be another copy.
            small = _on_white(_scaled(_plain(image), most_pixels))
            return small if turn is None else small.transpose(turn)
    except UnidentifiedImageError:
        raise Unusable(f"its data is no image that can be read here; {', '.join(FORMATS)} can be") from None


def scale_down(size: tuple[int, int], most_pixels: int) -> tuple[int, int]:
    """The largest size of the same shape with at most so many pixels."""
    width, height = size
    if width * height <= most_pixels:
        return size
    factor = (most_pixels / (width * height)) ** 0.5
    return max(1, int(width * factor)), max(1, int(height * factor))


def _check_size(size: tuple[int, int], most_pixels: int, resize: bool) -> None:
    pixels = size[0] * size[1]
    if pixels == 0:
        raise Unusable("it has no pixels")
    limit = MOST_DECODED_PIXELS if resize else most_pixels
    if pixels > limit:
        raise Unusable(f"it has {size[0]} x {size[1]} pixels, and {limit} are taken here; send a smaller one")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How to turn a picture so that it stands as the camera was held."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except (struct.error, SyntaxError, ValueError, TypeError, KeyError):
        # What is wrong is the note about the camera; the picture itself is whole.
        return None


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        # Pillow would cut 16 bits off at 255.
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.mode in SCALED_MODES and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _scaled(image: Image.Image, most_pixels: int) -> Image.Image:
    size = scale_down(image.size, most_pixels)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    ground.alpha_composite(layer)
    return ground.convert("RGB")

"""Decodes pictures: the first frame, upright, in RGB, on white where it is transparent."""

from __future__ import annotations

import io
import struct

from PIL import Image, ImageOps, UnidentifiedImageError

from mlx_host_vlm.media.unusable import Unusable

Image.init()
# Pillow can be built without some of these.
FORMATS = tuple(form for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if form in Image.OPEN)
# More than this is not decoded, even to be scaled down: it would take 300 MB.
MOST_DECODED_PIXELS = 100_000_000
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(file: bytes, most_pixels: int, *, resize: bool) -> Image.Image:
    """Decode a picture, scaled down to `most_pixels` if `resize` allows it; Unusable says why not."""
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            _check_size(image.size, most_pixels, resize)
            scaled = scale_down(image.size, most_pixels)
            # A JPEG can be decoded at half the size or less, which saves most of the work.
            image.draft("RGB", scaled)
            upright = _upright(image)
            flat = _flat(upright)
            # A picture that is turned has its sides swapped.
            fitting = scale_down(flat.size, most_pixels)
            return flat if fitting == flat.size else flat.resize(fitting, Image.Resampling.LANCZOS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unusable(f"it has more than {MOST_DECODED_PIXELS} pixels") from None
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


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (struct.error, SyntaxError, ValueError, TypeError, KeyError):
        # What is wrong is the note about how the camera was held; the picture itself may be whole.
        image.load()
        return image


def _flat(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        # Pillow would cut 16 bits off at 255.
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    ground.alpha_composite(layer)
    return ground.convert("RGB")

"""Decodes image files by Pillow.

Image files can make Pillow crash or run out of memory: in a model's process, use `DecoderPool.decode_image`.
"""

from __future__ import annotations

import io
import struct
import warnings

from PIL import Image, UnidentifiedImageError

from mlx_host_media.errors import MediaError
from mlx_host_media.images import DecodedImage, ImageLimits, Mode, Size, fit_size, on_white

Image.init()
# The enabled formats, as far as Pillow was built with them. Others run external programs or are rarely tested.
FORMATS = tuple(name for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if name in Image.OPEN)
# ImageLimits replace Pillow's own limit, which only warns up to twice its value.
Image.MAX_IMAGE_PIXELS = None

ORIENTATION_TAG = 0x0112
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = (5, 6, 7, 8)
# 16-bit modes; Pillow opens some 16-bit files as 32-bit integers.
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
# Divisor that maps 16 bits to 8: 65535 becomes 255.
DEEP_DIVISOR = 257
# Modes that Pillow can resize without converting colours.
RESIZABLE_MODES = ("RGB", "RGBA", "L", "LA")


def decode_image(file: bytes | bytearray, limits: ImageLimits, *, alpha: bool = False) -> DecodedImage:
    """Decode an image, with its alpha channel if `alpha` is set.

    Raises MediaError with the code `invalid_image` or `image_too_large`.
    """
    if not file:
        raise MediaError("the file is empty", "invalid_image")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(file), formats=FORMATS) as image:
            _check_size(image.size, limits.max_pixels)
            return _decode(image, limits, alpha)
    except MediaError:
        raise
    except UnidentifiedImageError:
        raise MediaError(f"the file is not an image in {', '.join(FORMATS)} format", "invalid_image") from None
    except Exception as error:  # noqa: BLE001  Pillow's decoders raise arbitrary exceptions for damaged files
        reason = f"the image is damaged or truncated ({type(error).__name__}: {error})"
        raise MediaError(reason, "invalid_image") from None


def _check_size(size: Size, max_pixels: int) -> None:
    pixels = size[0] * size[1]
    if pixels == 0:
        raise MediaError("the image has no pixels", "invalid_image")
    if pixels > max_pixels:
        raise MediaError(
            f"the image has {size[0]}x{size[1]} pixels, which is more than the limit of {max_pixels} pixels",
            "image_too_large",
        )


def _decode(image: Image.Image, limits: ImageLimits, alpha: bool) -> DecodedImage:
    original = image.size
    # JPEG can be decoded at a half, a quarter or an eighth of the size, which saves most of the work.
    is_draft = image.draft("RGB", _target(original, limits)) is not None
    image.load()
    if not is_draft:
        # Pillow applies the orientation of TIFF images when it loads them.
        original = image.size
    orientation = _orientation(image)
    size = _target(original, limits)
    # Scale first: for a large image, each of the other steps would make another full-size copy.
    scaled = _plain(image)
    if scaled.size != size:
        scaled = scaled.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    scaled = scaled.convert("RGBA") if alpha and scaled.has_transparency_data else on_white(scaled)
    if orientation in TRANSPOSITIONS:
        scaled = scaled.transpose(TRANSPOSITIONS[orientation])
    if orientation in QUARTER_TURNS:
        original = original[1], original[0]
    mode: Mode = "RGBA" if scaled.mode == "RGBA" else "RGB"
    return DecodedImage(mode, scaled.size, original, scaled.tobytes())


def _target(size: Size, limits: ImageLimits) -> Size:
    return size if limits.scale_to is None else fit_size(size, limits.scale_to)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except (struct.error, SyntaxError, ValueError, TypeError, KeyError):
        # Damaged metadata does not make the image unusable.
        return 1


def _plain(image: Image.Image) -> Image.Image:
    """Convert an image to 8 bits per channel and a mode that can be resized."""
    if image.mode in DEEP_MODES:
        image = _from_16_bits(image)
    elif image.mode == "F":
        image = _from_floats(image)
    if image.mode in RESIZABLE_MODES and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit values to 8 bits; Pillow's conversion would clip them at 255."""
    transparent = image.info.get("transparency")
    scaled = image.convert("I").point(lambda value: value * (1 / DEEP_DIVISOR)).convert("L")
    if isinstance(transparent, int):
        scaled.info["transparency"] = transparent // DEEP_DIVISOR
    return scaled


def _from_floats(image: Image.Image) -> Image.Image:
    """Convert floats to 8 bits; values from 0 to 1, the usual range, are scaled to 255."""
    _, high = image.getextrema()
    if isinstance(high, float) and high <= 1:
        image = image.point(lambda value: value * 255)
    return image.convert("L")

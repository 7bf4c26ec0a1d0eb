"""Pictures as files: those that clients send, which nobody has checked, and those that go out."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Literal

from mlx_host.errors import InvalidRequest, TooLarge
from PIL import Image, ImageOps

# Others of Pillow's formats call programs, or are too rare to have been looked at much.
FORMATS = ("PNG", "JPEG", "WEBP")
# So many pixels take 200 MB when they are unpacked, as few bytes as the file may have.
MOST_PIXELS = 50_000_000
MEGABYTE = 1_000_000
# What Pillow's readers raise where a file is damaged.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)

Format = Literal["png", "jpeg", "webp"]


def read(file: bytes, param: str, most_megabytes: float) -> Image.Image:
    """Decode an upload: upright, RGB, or RGBA if it has transparency; of an animation the first picture.

    Raises InvalidRequest for what is no picture, is damaged or ends early, and TooLarge for what is too large.
    """
    if len(file) > most_megabytes * MEGABYTE:
        raise TooLarge(
            f"{param}: the file has {len(file) / MEGABYTE:.1f} MB; this model takes {most_megabytes:g} MB "
            "(--max-image-mb).",
            param=param,
        )
    try:
        with warnings.catch_warnings():
            # The number of pixels is checked here, before they are unpacked; odd metadata does not matter.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(file), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise _too_many_pixels(f" ({image.width}x{image.height})", param)
                image.load()
                return _upright(_plain(image))
    except Image.DecompressionBombError as error:
        # Pillow's own limit, far above ours, is met as the header is read.
        raise _too_many_pixels("", param) from error
    except DAMAGE as error:
        raise InvalidRequest(
            f"{param}: the file cannot be read as a PNG, JPEG or WebP image, or is damaged.",
            param=param,
            code="invalid_image",
        ) from error


def _too_many_pixels(size: str, param: str) -> TooLarge:
    message = f"{param}: the image has too many pixels{size}; {MOST_PIXELS:,} are the most."
    return TooLarge(message, param=param, code="image_too_large")


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image)


def _plain(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16 bits of grey, which Pillow would cut off at 255.
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def read_mask(file: bytes, size: tuple[int, int], most_megabytes: float) -> Image.Image:
    """Decode a mask for an image of this size: white is where it is to change.

    As with OpenAI that is where the mask is transparent; one without transparency says it in white itself.
    """
    mask = read(file, "mask", most_megabytes)
    if mask.size != size:
        raise InvalidRequest(
            f"The mask has {mask.width}x{mask.height} pixels, the image {size[0]}x{size[1]}; they must be of one size.",
            param="mask",
        )
    if mask.mode == "RGBA":
        return ImageOps.invert(mask.getchannel("A")).convert("RGB")
    return mask.convert("L").convert("RGB")


def shrunk(size: tuple[int, int], most_pixels: int) -> tuple[int, int]:
    """The largest size of the same shape that has no more than so many pixels, and is no larger than it was."""
    width, height = size
    scale = min(1.0, (most_pixels / (width * height)) ** 0.5)
    return max(1, int(width * scale)), max(1, int(height * scale))


def shrink(image: Image.Image, most_pixels: int) -> Image.Image:
    """Make an image smaller, its shape kept, until it has no more than so many pixels."""
    size = shrunk(image.size, most_pixels)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def is_transparent(image: Image.Image) -> bool:
    return image.mode == "RGBA"


def write(image: Image.Image, format: Format, compression: int) -> bytes:
    """Encode a picture; the same pixels give the same bytes. JPEG knows no transparency: it becomes white."""
    file = io.BytesIO()
    match format:
        case "png":
            image.save(file, "PNG")
        case "jpeg":
            if is_transparent(image):
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image.convert("RGB").save(file, "JPEG", quality=compression)
        case "webp":
            image.save(file, "WEBP", quality=compression)
    return file.getvalue()

"""Edge cases of image decoding with their correct results, and edge cases of data URLs."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from mlx_host_media.errors import Code
from PIL import Image

from tests.support.media import encoded

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
SIZE = (40, 20)


@dataclass(frozen=True)
class EdgeCaseImage:
    """A file with its decoded size and the colour of the last pixel, or the error code.

    `alpha` is the colour with the alpha channel kept, if it differs. Lossy formats may differ by a few values.
    """

    file: bytes
    size: tuple[int, int] = SIZE
    pixel: tuple[int, ...] = RED
    alpha: tuple[int, ...] | None = None
    error: Code | None = None


def png_header(width: int, height: int, data: bytes = b"\0") -> bytes:
    """A PNG that declares a size but has almost no data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _sideways() -> bytes:
    """A photo that must be rotated 90° clockwise by EXIF orientation; its last row is then red."""
    image = Image.new("RGB", SIZE, BLUE)
    image.paste(RED, (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image, "JPEG", exif=exif, quality=100, subsampling=0)


def _red(alpha: int) -> Image.Image:
    return Image.new("RGBA", SIZE, (*RED, alpha))


def _palette_with_transparency() -> bytes:
    image = Image.new("P", SIZE, 1)
    image.putpalette([*BLUE, *RED])
    return encoded(image, transparency=1)


def _grey(value: int, form: str, **options: object) -> bytes:
    return encoded(Image.fromarray(np.full(SIZE[::-1], value, np.uint16)), form, **options)


def _animation(form: str) -> bytes:
    first, second = Image.new("RGB", SIZE, RED), Image.new("RGB", SIZE, BLUE)
    options = {"lossless": True} if form == "WEBP" else {}
    return encoded(first, form, save_all=True, append_images=[second], **options)


_TRANSPARENT_GREEN = encoded(Image.new("RGB", SIZE, GREEN), transparency=GREEN)

EDGE_CASE_IMAGES: dict[str, EdgeCaseImage] = {
    "EXIF orientation": EdgeCaseImage(_sideways(), size=(20, 40)),
    "alpha 0": EdgeCaseImage(encoded(_red(0)), pixel=WHITE, alpha=(*RED, 0)),
    "alpha 0.5": EdgeCaseImage(encoded(_red(128)), pixel=(255, 127, 127), alpha=(*RED, 128)),
    "alpha 1": EdgeCaseImage(encoded(_red(255)), alpha=(*RED, 255)),
    "palette with transparency": EdgeCaseImage(_palette_with_transparency(), pixel=WHITE, alpha=(*RED, 0)),
    "grey with alpha": EdgeCaseImage(encoded(Image.new("LA", SIZE, (0, 0))), pixel=WHITE, alpha=(0, 0, 0, 0)),
    "RGB with tRNS": EdgeCaseImage(_TRANSPARENT_GREEN, pixel=WHITE, alpha=(*GREEN, 0)),
    "16-bit PNG": EdgeCaseImage(_grey(40_000, "PNG"), pixel=(155, 155, 155)),
    "16-bit TIFF": EdgeCaseImage(_grey(40_000, "TIFF"), pixel=(155, 155, 155)),
    "16-bit with tRNS": EdgeCaseImage(_grey(40_000, "PNG", transparency=40_000), pixel=WHITE, alpha=(155, 155, 155, 0)),
    "float TIFF": EdgeCaseImage(encoded(Image.new("F", SIZE, 0.5), "TIFF"), pixel=(127, 127, 127)),
    "animated GIF": EdgeCaseImage(_animation("GIF")),
    "animated PNG": EdgeCaseImage(_animation("PNG")),
    "animated WebP": EdgeCaseImage(_animation("WEBP")),
    "BMP": EdgeCaseImage(encoded(Image.new("RGB", SIZE, RED), "BMP")),
    "TIFF": EdgeCaseImage(encoded(Image.new("RGB", SIZE, RED), "TIFF")),
    "CMYK JPEG": EdgeCaseImage(encoded(Image.new("RGB", SIZE, RED).convert("CMYK"), "JPEG", quality=100)),
    "1-bit PNG": EdgeCaseImage(encoded(Image.new("1", SIZE, 1)), pixel=WHITE),
    "truncated JPEG": EdgeCaseImage(_sideways()[:-200], error="invalid_image"),
    "truncated PNG": EdgeCaseImage(encoded(_red(255))[:60], error="invalid_image"),
    "SVG": EdgeCaseImage(b"<svg xmlns='http://www.w3.org/2000/svg'/>", error="invalid_image"),
    "empty": EdgeCaseImage(b"", error="invalid_image"),
    "too many pixels": EdgeCaseImage(png_header(20_000, 10_000), error="image_too_large"),
}

_FILE = encoded(Image.new("RGB", SIZE, RED))
_BASE64 = base64.b64encode(_FILE).decode()

DATA_URLS: dict[str, str] = {
    "as usual": f"data:image/png;base64,{_BASE64}",
    "upper case scheme": f"DATA:image/png;base64,{_BASE64}",
    "upper case base64": f"data:image/png;BASE64,{_BASE64}",
    "more parameters": f"data:image/png;charset=utf-8;base64,{_BASE64}",
    "space before base64": f"data:image/png; base64,{_BASE64}",
    "leading space": f" data:image/png;base64,{_BASE64}",
    "no media type": f"data:;base64,{_BASE64}",
    "wrong media type": f"data:text/plain;base64,{_BASE64}",
    "no padding": f"data:image/png;base64,{_BASE64.rstrip('=')}",
    "newlines": "data:image/png;base64," + "\n".join(_BASE64[start : start + 20] for start in range(0, 9999, 20)),
    "URL-safe": f"data:image/png;base64,{base64.urlsafe_b64encode(_FILE).decode()}",
    "percent-escaped base64": f"data:image/png;base64,{quote(_BASE64, safe='')}",
    "percent-escaped bytes": f"data:image/png,{quote(_FILE)}",
}
BROKEN_DATA_URLS = {
    "no comma": "data:image/png;base64",
    "one character": "data:;base64,a",
    "not ASCII": "data:;base64,ä",
    "other characters": "data:;base64,!!!!",
    "no data": "data:image/png;base64,",
}

"""Images out of data: URLs; nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import binascii
import io
import struct
import warnings
import zlib
from urllib.parse import unquote_to_bytes

from mlx_host.errors import InvalidRequest
from PIL import Image

Image.init()
# Others of Pillow's formats call programs, or are too rare to have been looked at much; it can be built without these.
FORMATS = tuple(form for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if form in Image.OPEN)
# An image that unpacks to more than this is not unpacked.
MOST_PIXELS = 80_000_000
# What Pillow's readers raise where a file is damaged.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, RuntimeError),
    *(struct.error, zlib.error),
)


def read_image(url: str) -> Image.Image:
    """Decode the image in a data: URL; InvalidRequest says why not."""
    if not url.startswith("data:"):
        raise _refused(f"{url[:60]!r} is not fetched; send the image itself as data:image/png;base64,...")
    head, comma, body = url.partition(",")
    if not comma:
        raise _refused("the data: URL has no comma before its data")
    try:
        raw = base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
        with warnings.catch_warnings():
            # The number of pixels is checked here, before they are unpacked; odd metadata does not matter.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise _refused(f"it has {image.width} x {image.height} pixels, and {MOST_PIXELS} are the most")
                return image.convert("RGB")
    except binascii.Error as error:
        raise _refused(f"its base64 cannot be read ({error})") from None
    except Image.DecompressionBombError:
        # Pillow's own limit, above ours, is met as the header is read.
        raise _refused(f"it has more than {MOST_PIXELS} pixels") from None
    except DAMAGE:
        raise _refused(f"its data cannot be read as an image; {', '.join(FORMATS)} can be") from None


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"image_url: {reason}.", param="image_url")

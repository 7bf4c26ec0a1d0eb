"""Images out of data: URLs; nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from urllib.parse import unquote_to_bytes

from mlx_host.errors import InvalidRequest
from PIL import Image, UnidentifiedImageError


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
            # An image that unpacks to far more than it should is no image for us.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(raw)).convert("RGB")
    except binascii.Error as error:
        raise _refused(f"its base64 cannot be read ({error})") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise _refused(f"its data cannot be read as an image ({error})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _refused(f"it has more than {Image.MAX_IMAGE_PIXELS} pixels") from None


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"image_url: {reason}.", param="image_url")

"""Image files: decodes uploads within limits, encodes results."""

from __future__ import annotations

import io
from collections.abc import Generator
from typing import Literal

from mlx_host.errors import InvalidRequestError, RequestTooLargeError
from mlx_host_media.errors import MediaError
from mlx_host_media.images import DecodedImage, ImageLimits, Size, on_white
from mlx_host_media.pool import DecoderPool
from PIL import Image, ImageOps

# Images of more pixels are not decoded: these take 400 MB on the way.
MAX_PIXELS = 50_000_000
MEGABYTE = 1_000_000

Format = Literal["png", "jpeg", "webp"]


class ImageReader:
    """Decodes uploads of up to `max_megabytes`, scaled down to `scale_to` pixels; its processes run until `close`.

    The methods are generators that yield None until the image is there. They raise InvalidRequestError for unusable files
    and RequestTooLargeError for those above a limit, with the name of the form field in `param`.
    """

    def __init__(self, *, max_megabytes: float, scale_to: int) -> None:
        self._decoders = DecoderPool(max_workers=1)
        self._max_megabytes = max_megabytes
        self._limits = ImageLimits(max_pixels=MAX_PIXELS, scale_to=scale_to)

    def read(self, file: bytes, param: str, *, alpha: bool) -> Generator[None, None, DecodedImage]:
        """Decode an image to RGB, or with `alpha` to RGBA if it has transparency."""
        if len(file) > self._max_megabytes * MEGABYTE:
            raise RequestTooLargeError(
                f"{param}: the file has {len(file) / MEGABYTE:.1f} MB, which is more than the limit of "
                f"{self._max_megabytes:g} MB (--max-image-mb).",
                param=param,
            )
        try:
            return (yield from self._decoders.decode_image(file, self._limits, alpha=alpha))
        except MediaError as error:
            raise error.as_request_error(param, param) from None

    def read_mask(self, file: bytes, size: Size) -> Generator[None, None, Image.Image]:
        """Decode the mask of an image that had this size as a file; the result is white where the image may change.

        As in OpenAI's API, the transparent parts of a mask mark what may change. In a mask without transparency, the
        white parts do.
        """
        mask = yield from self.read(file, "mask", alpha=True)
        if mask.original_size != size:
            width, height = mask.original_size
            raise InvalidRequestError(
                f"mask: the mask has {width}x{height} pixels, the image {size[0]}x{size[1]}; send a mask of the same "
                "size as the image.",
                param="mask",
            )
        image = mask.to_pil()
        if is_transparent(image):
            return ImageOps.invert(image.getchannel("A")).convert("RGB")
        return image.convert("L").convert("RGB")

    def close(self) -> None:
        self._decoders.close()


def is_transparent(image: Image.Image) -> bool:
    return image.mode == "RGBA"


def encode(image: Image.Image, format: Format, compression: int) -> bytes:
    """Encode an image; the same pixels give the same bytes. In JPEG, transparency becomes white."""
    file = io.BytesIO()
    match format:
        case "png":
            image.save(file, "PNG")
        case "jpeg":
            on_white(image).save(file, "JPEG", quality=compression)
        case "webp":
            image.save(file, "WEBP", quality=compression)
    return file.getvalue()

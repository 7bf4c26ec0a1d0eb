"""Decodes uploaded images within limits and encodes generated images."""

from __future__ import annotations

import io
from collections.abc import Generator
from typing import Literal

from mlx_host.errors import InvalidRequestError, RequestTooLargeError
from mlx_host_media.errors import MediaError
from mlx_host_media.images import DecodedImage, ImageLimits, Size, on_white
from mlx_host_media.pool import DecoderPool
from PIL import Image, ImageOps

# Images with more pixels are not decoded: decoding this many takes 400 MB.
MAX_PIXELS = 50_000_000
MEGABYTE = 1_000_000

ImageFormat = Literal["png", "jpeg", "webp"]


class ImageReader:
    """Decodes uploads of up to `max_megabytes` in a worker process and scales them down to `scale_to` pixels.

    The methods are generators that yield None until the image is decoded. They raise InvalidRequestError for invalid
    files and RequestTooLargeError for files above a limit, with the name of the form field in `param`. `close` ends the
    worker process.
    """

    def __init__(self, *, max_megabytes: float, scale_to: int) -> None:
        self._decoders = DecoderPool(max_workers=1)
        self._max_megabytes = max_megabytes
        self._limits = ImageLimits(max_pixels=MAX_PIXELS, scale_to=scale_to)

    def read(self, file: bytes, param: str, *, alpha: bool) -> Generator[None, None, DecodedImage]:
        """Decode an image to RGB, or to RGBA if it has transparency and `alpha` is set."""
        if len(file) > self._max_megabytes * MEGABYTE:
            raise RequestTooLargeError(
                f"{param}: the file has {len(file) / MEGABYTE:.1f} MB; the maximum is {self._max_megabytes:g} MB "
                "(--max-image-mb).",
                param=param,
            )
        try:
            return (yield from self._decoders.decode_image(file, self._limits, alpha=alpha))
        except MediaError as error:
            raise error.as_request_error(param, param) from None

    def read_mask(self, file: bytes, size: Size) -> Generator[None, None, Image.Image]:
        """Decode a mask to RGB, white where the image may change.

        As in OpenAI's API, the transparent areas of a mask mark what may change; in a mask without transparency, the
        white areas do. `size` is the size of the uploaded image before scaling.
        """
        mask = yield from self.read(file, "mask", alpha=True)
        if mask.original_size != size:
            width, height = mask.original_size
            raise InvalidRequestError(
                f"mask: the mask has {width}x{height} pixels but the image has {size[0]}x{size[1]}; send a mask of the "
                "same size as the image.",
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


def encode(image: Image.Image, image_format: ImageFormat, compression: int) -> bytes:
    """Encode an image deterministically. JPEG files get a white background.

    `compression` is the quality of JPEG and WebP, from 0 to 100.
    """
    file = io.BytesIO()
    match image_format:
        case "png":
            image.save(file, "PNG")
        case "jpeg":
            on_white(image).save(file, "JPEG", quality=compression)
        case "webp":
            image.save(file, "WEBP", quality=compression)
    return file.getvalue()

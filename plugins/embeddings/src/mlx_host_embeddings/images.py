"""Images of embedding requests, as data URLs only."""

from __future__ import annotations

from collections.abc import Generator

from mlx_host_media.data_urls import decode_data_url, is_data_url
from mlx_host_media.errors import MediaError
from mlx_host_media.images import ImageLimits
from mlx_host_media.pool import DecoderPool
from PIL.Image import Image

LIMITS = ImageLimits(max_pixels=80_000_000)


class ImageLoader:
    """Decodes images in data URLs, in worker processes that run until `close`."""

    def __init__(self) -> None:
        self._decoders = DecoderPool()

    def load(self, url: str) -> Generator[None, None, Image]:
        """Decode an image to RGB, yielding None while waiting; raises InvalidRequestError."""
        try:
            if not is_data_url(url):
                raise MediaError(
                    f"{url[:60]!r} is not a data URL; send the image as data:image/png;base64,...", "invalid_image"
                )
            image = yield from self._decoders.decode_image(decode_data_url(url), LIMITS)
        except MediaError as error:
            raise error.as_request_error("image_url", "image_url") from None
        return image.to_pil()

    def close(self) -> None:
        self._decoders.close()

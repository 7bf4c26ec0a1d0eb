"""Loads the images and audio clips of a request while the model works on others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from mlx_host_media.audio import AudioLimits
from mlx_host_media.background import BackgroundRunner
from mlx_host_media.data_urls import decode_base64, decode_data_url, is_data_url
from mlx_host_media.errors import MediaError
from mlx_host_media.fetcher import Fetcher
from mlx_host_media.images import ImageLimits
from mlx_host_media.pool import DecoderPool
from PIL.Image import Image

from mlx_host_vlm.media.content_parts import Kind, Part

# OpenAI's "detail": "low" is 512 x 512 pixels.
LOW_DETAIL_PIXELS = 512 * 512
# An image of more pixels is not decoded, even to be scaled down.
MAX_DECODED_PIXELS = 100_000_000
# All images of a request, after scaling, are in memory together: about a gigabyte.
MAX_TOTAL_PIXELS = 256_000_000
# The length of audio for models that do not declare theirs, in seconds.
MAX_AUDIO_SECONDS = 600.0
# Maps 16 bits to -1 to 1.
FULL_SCALE = np.float32(1 / 32768)
MAX_DOWNLOAD_THREADS = 8
MAX_READER_THREADS = 2

AudioSamples: TypeAlias = npt.NDArray[np.float32]
"""Mono samples between -1 and 1."""


@dataclass(frozen=True)
class Medium:
    """An image or audio clip; those with the same `digest` are the same input for the model."""

    kind: Kind
    content: Image | AudioSamples
    digest: bytes

    @property
    def pixels(self) -> int:
        return self.content.width * self.content.height if isinstance(self.content, Image) else 0


class MediaLoader:
    """Loads media; without a `fetcher` only data URLs are accepted.

    `patience` returns the seconds that a generator may block before it yields. Images of more than `max_pixels` are
    scaled down if `resize` is true, and rejected otherwise.
    """

    def __init__(
        self,
        patience: Callable[[], float],
        fetcher: Fetcher | None,
        *,
        max_pixels: int,
        resize: bool,
        sample_rate: int,
        max_seconds: float,
    ) -> None:
        # Separate threads, so that slow servers do not delay images that are in the request.
        self._downloads = BackgroundRunner(patience, max_threads=MAX_DOWNLOAD_THREADS)
        self._readers = BackgroundRunner(patience, max_threads=MAX_READER_THREADS)
        self._decoders = DecoderPool(patience=patience)
        self._fetcher = fetcher
        self._max_pixels = max_pixels
        self._resize = resize
        self._sample_rate = sample_rate
        self._audio_limits = AudioLimits(max_seconds)

    def load(self, parts: Sequence[Part], param: str = "messages") -> Generator[None, None, list[Medium]]:
        """Load all media, yielding None while waiting; InvalidRequestError locates the first that cannot be used."""
        loaded = []
        pixels = 0
        for part in parts:
            try:
                loaded.append((yield from self._load(part)))
                pixels += loaded[-1].pixels
                if pixels > MAX_TOTAL_PIXELS:
                    raise MediaError(
                        f"the images up to this one have {pixels} pixels in total, which is more than the limit of "
                        f"{MAX_TOTAL_PIXELS}; send fewer or smaller ones",
                        "image_too_large",
                    )
            except MediaError as error:
                raise error.as_request_error(part.where, param) from None
        return loaded

    def close(self) -> None:
        """End the decoder processes."""
        self._decoders.close()

    def _load(self, part: Part) -> Generator[None, None, Medium]:
        is_remote = part.kind == "image" and not is_data_url(part.source)
        file, digest = yield from (self._downloads if is_remote else self._readers).run(partial(self._read, part))
        content: Image | AudioSamples
        if part.kind == "audio":
            samples = yield from self._decoders.decode_audio(file, self._sample_rate, self._audio_limits)
            content = samples.astype(np.float32) * FULL_SCALE
        else:
            content = (yield from self._decoders.decode_image(file, self._image_limits(part))).to_pil()
        return Medium(part.kind, content, digest)

    def _read(self, part: Part) -> tuple[bytes, bytes]:
        """Return a file and the digest of the model's input."""
        if part.kind == "audio":
            file = decode_base64(part.source, "invalid_audio")
            return file, hashlib.sha256(b"audio " + file).digest()
        file = decode_data_url(part.source) if is_data_url(part.source) else self._fetch(part.source)
        return file, hashlib.sha256(b"image %d " % self._target_pixels(part) + file).digest()

    def _fetch(self, url: str) -> bytes:
        if self._fetcher is None:
            raise MediaError(
                f"{url[:60]!r} is not a data URL; send the image as data:image/png;base64,..., or start the server "
                "with --allow-remote-media",
                "invalid_image",
            )
        return self._fetcher.fetch(url)

    def _target_pixels(self, part: Part) -> int:
        return min(self._max_pixels, LOW_DETAIL_PIXELS) if part.low_detail else self._max_pixels

    def _image_limits(self, part: Part) -> ImageLimits:
        target = self._target_pixels(part)
        resize = self._resize or part.low_detail
        return ImageLimits(max_pixels=MAX_DECODED_PIXELS if resize else target, scale_to=target)

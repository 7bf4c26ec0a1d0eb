"""Stores generated images in memory, for URLs and jobs; the oldest are evicted first."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from mlx_host.errors import InvalidRequestError


@dataclass(frozen=True)
class StoredImage:
    """An image file; `expires_at` is in seconds of the store's clock."""

    content: bytes
    media_type: str
    expires_at: float


class ImageNotFoundError(InvalidRequestError):
    """The store has no image with this name."""

    status = 404
    code = "file_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"Image {name!r} not found: it does not exist, has expired or was evicted.")


class ImageStore:
    """Images by unguessable names: at most `max_bytes` in total, each for `ttl` seconds."""

    def __init__(self, max_bytes: int, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._clock = clock
        # In insertion order, so that the first ones expire first.
        self._images: dict[str, StoredImage] = {}
        self._bytes = 0

    def add(self, content: bytes, format: str) -> str:
        """Store an image file and return its name."""
        name = f"{secrets.token_urlsafe(24)}.{format}"
        self._images[name] = StoredImage(content, f"image/{format}", self._clock() + self._ttl)
        self._bytes += len(content)
        self._evict()
        return name

    def get(self, name: str) -> StoredImage:
        """Return an image; ImageNotFoundError if it does not exist, has expired or was evicted."""
        self._evict()
        if name not in self._images:
            raise ImageNotFoundError(name)
        return self._images[name]

    def delete(self, name: str) -> None:
        """Delete an image; do nothing if it has already been evicted."""
        if (image := self._images.pop(name, None)) is not None:
            self._bytes -= len(image.content)

    def _evict(self) -> None:
        for name, image in list(self._images.items()):
            if self._bytes <= self._max_bytes and image.expires_at > self._clock():
                return
            self.delete(name)

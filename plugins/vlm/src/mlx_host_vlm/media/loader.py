"""Makes pictures and sounds of what a request holds, beside the model's thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from mlx_host.errors import InvalidRequest
from PIL.Image import Image

from mlx_host_vlm.media.aside import Aside
from mlx_host_vlm.media.audio import Samples, read_audio
from mlx_host_vlm.media.data_url import read_base64, read_data_url
from mlx_host_vlm.media.images import read_image
from mlx_host_vlm.media.parts import Kind, Part
from mlx_host_vlm.media.remote import Fetcher
from mlx_host_vlm.media.unusable import Unusable

# A picture of which a coarse look is enough, as OpenAI has it: 512 x 512.
SMALL_PIXELS = 512 * 512
# One request's pictures, decoded and scaled down, wait in memory until all are there: a gigabyte of them.
MOST_PIXELS_TOGETHER = 256_000_000
DOWNLOADS = 8
# A large picture takes up to 800 MB while it is decoded.
DECODERS = 2

Sound: TypeAlias = Samples


@dataclass(frozen=True)
class Medium:
    """A picture or a sound; what has the same `digest` looks or sounds the same to the model."""

    kind: Kind
    content: Image | Sound
    digest: bytes

    @property
    def pixels(self) -> int:
        return self.content.width * self.content.height if isinstance(self.content, Image) else 0


class Loader:
    """Loads pictures and sounds; `patience` is Aside's, `fetcher` None means that none are fetched."""

    def __init__(
        self,
        patience: Callable[[], float],
        fetcher: Fetcher | None,
        *,
        most_pixels: int,
        resize: bool,
        rate: int,
        most_seconds: float,
    ) -> None:
        # Apart, so that slow servers do not hold up pictures that are there.
        self._downloads = Aside(patience, at_once=DOWNLOADS)
        self._decoders = Aside(patience, at_once=DECODERS)
        self._fetcher = fetcher
        self._most_pixels = most_pixels
        self._resize = resize
        self._rate = rate
        self._most_seconds = most_seconds

    def load(self, parts: Sequence[Part], param: str = "messages") -> Generator[None, None, list[Medium]]:
        """Load all, giving way meanwhile; InvalidRequest names the first that cannot be used."""
        loaded = []
        pixels = 0
        for part in parts:
            try:
                loaded.append((yield from self._load(part)))
                pixels += loaded[-1].pixels
                if pixels > MOST_PIXELS_TOGETHER:
                    raise Unusable(
                        f"the pictures up to it have {pixels} pixels together, and {MOST_PIXELS_TOGETHER} are taken; "
                        "send fewer or smaller ones"
                    )
            except Unusable as error:
                raise InvalidRequest(f"{part.where}: {error}.", param=param) from None
        return loaded

    def _load(self, part: Part) -> Generator[None, None, Medium]:
        fetched = None
        if part.kind == "image" and part.source[:5].lower() != "data:":
            fetched = yield from self._downloads.run(partial(self._fetch, part.source))
        return (yield from self._decoders.run(partial(self._decode, part, fetched)))

    def _decode(self, part: Part, file: bytes | None) -> Medium:
        if file is None:
            file = read_base64(part.source) if part.kind == "audio" else read_data_url(part.source)
        if not file:
            raise Unusable("it is empty")
        most = min(self._most_pixels, SMALL_PIXELS) if part.small else self._most_pixels
        content: Image | Sound
        try:
            if part.kind == "audio":
                content = read_audio(file, self._rate, self._most_seconds)
            else:
                content = read_image(file, most, resize=self._resize or part.small)
        except Unusable:
            raise
        except Exception as error:  # noqa: BLE001  decoders raise whatever they like over what is broken
            raise Unusable(f"its data is damaged or ends early ({type(error).__name__}: {error})") from None
        return Medium(part.kind, content, hashlib.sha256(b"%d %s " % (most, part.kind.encode()) + file).digest())

    def _fetch(self, url: str) -> bytes:
        if self._fetcher is None:
            raise Unusable(
                f"{url[:60]!r} is not fetched; send the picture itself as data:image/png;base64,..., or start the "
                "server with --allow-remote-media"
            )
        return self._fetcher.fetch(url)

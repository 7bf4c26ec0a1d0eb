"""What the images endpoints answer: a response and a stream, both from the same events.

Source: the OpenAI SDK's `types/images_response.py`, `image_gen_completed_event.py` and their siblings.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mlx_host._apis.images.progress import Bars
from mlx_host._apis.images.request import ImageBody
from mlx_host._host import Exchange
from mlx_host.api import sse
from mlx_host.events import Event, FinishedImage, ImagesStarted, PartialImage, Progress
from mlx_host.requests import ImageEditRequest, ImageRequest


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


class Album:
    """The pictures of one answer, as far as they have come, by the model that is served as `model`."""

    def __init__(self, model: str, request: ImageRequest, body: ImageBody) -> None:
        self.model = model
        self.request = request
        self.body = body
        self.started: ImagesStarted | None = None
        self.finished: list[FinishedImage] = []
        # Of the picture that is being made.
        self.step = 0

    def add(self, event: Event) -> None:
        match event:
            case ImagesStarted():
                self.started = event
            case Progress(done=step):
                self.step = int(step)
            case FinishedImage():
                self.finished.append(event)

    def put_away(self, keep: Callable[[bytes, str], str]) -> list[str]:
        """Give the finished pictures to a store, and return their names there."""
        names = [keep(picture.content, self.request.format) for picture in self.finished]
        self.finished = [replace(picture, content=b"") for picture in self.finished]
        return names

    @property
    def size(self) -> str:
        assert self.started is not None
        return f"{self.started.width}x{self.started.height}"

    def usage(self, pictures: list[FinishedImage]) -> dict[str, Any]:
        """Count the tokens that went in, and those of some of the pictures."""
        assert self.started is not None
        given = self.started.prompt_tokens
        made = sum(picture.tokens for picture in pictures)
        details = {"image_tokens": self.started.image_tokens, "text_tokens": given - self.started.image_tokens}
        return {
            "input_tokens": given,
            "input_tokens_details": details,
            "output_tokens": made,
            "total_tokens": given + made,
        }

    def response(self, link: Callable[[FinishedImage], dict[str, Any]]) -> dict[str, Any]:
        """OpenAI's response; `link` tells how a picture comes with it, by URL or whole."""
        return {
            "created": int(time.time()),
            "data": [{**link(picture), "seed": picture.seed} for picture in self.finished],
            "background": background(any(picture.transparent for picture in self.finished)),
            "output_format": self.request.format,
            "size": self.size,
            "usage": self.usage(self.finished),
        }

    def event(self, picture: PartialImage | FinishedImage) -> str:
        """Write one event of the stream."""
        whole = isinstance(picture, FinishedImage)
        family = "image_edit" if isinstance(self.request, ImageEditRequest) else "image_generation"
        shared = {
            "type": f"{family}.{'completed' if whole else 'partial_image'}",
            "b64_json": as_base64(picture.content),
            "created_at": int(time.time()),
            "size": self.size,
            "quality": "auto",
            "background": background(picture.transparent),
            "output_format": self.request.format,
            # Ours: the SDK's types have one picture in a stream.
            "image_index": picture.image,
        }
        if isinstance(picture, FinishedImage):
            return sse.named({**shared, "seed": picture.seed, "usage": self.usage([picture])})
        return sse.named({**shared, "partial_image_index": picture.index})


def background(transparent: bool) -> str:
    return "transparent" if transparent else "opaque"


async def collect(exchange: Exchange, album: Album, bars: Bars) -> None:
    """Add an answer up."""
    async with exchange:
        with bars.watch(album.model, album.request.n) as watch:
            async for events in exchange:
                for event in events:
                    album.add(event)
                    watch(event)


async def stream(exchange: Exchange, album: Album, bars: Bars) -> sse.Pieces:
    """Write the pictures as they come, unfinished and finished."""
    async with exchange:
        with bars.watch(album.model, album.request.n) as watch:
            async for events in exchange:
                for event in events:
                    album.add(event)
                    watch(event)
                    match event:
                        case Progress(done=step, choice=image):
                            assert album.started is not None
                            yield sse.Comment(f"picture {image + 1}, step {step:g} of {album.started.steps}")
                        case PartialImage() | FinishedImage():
                            yield album.event(event)

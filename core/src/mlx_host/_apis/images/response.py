"""Builds a response or a stream from the events of an image request.

Source: the OpenAI SDK's `types/images_response.py`, `image_gen_completed_event.py` and their siblings.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fastapi.responses import Response

from mlx_host.api import ModelStatus
from mlx_host.api.http import Collector, Encoder, JsonResponse, Message, dumps
from mlx_host.events import Event, ImageCompleted, ImagesStarted, PartialImage, Progress
from mlx_host.requests import ImageEditRequest, ImageRequest

# Returns the fields of an image in a response: {"b64_json": …} or {"url": …}.
ImageFields = Callable[[ImageCompleted], dict[str, Any]]


def base64_text(content: bytes) -> str:
    """Encode bytes as standard base64."""
    return base64.b64encode(content).decode("ascii")


def base64_fields(image: ImageCompleted) -> dict[str, Any]:
    """Return the fields of an image in base64."""
    return {"b64_json": base64_text(image.content)}


class ImageResults:
    """The images of one request so far, and the progress of the current one.

    Copies the fields of the request that a response needs, so that the request is not retained: the uploads of an edit
    can be 64 MB, and the results of a finished job remain for an hour. `on_event` is called with every event.
    """

    def __init__(
        self, model: ModelStatus, request: ImageRequest, on_event: Callable[[Event], None] = lambda event: None
    ) -> None:
        self.model = model
        self.n = request.n
        self.seed = request.seed
        self.format = request.format
        self.is_edit = isinstance(request, ImageEditRequest)
        self.started: ImagesStarted | None = None
        self.completed: list[ImageCompleted] = []
        self.step = 0
        self.created_at = int(time.time())
        self._on_event = on_event

    def add(self, event: Event) -> None:
        """Add one event."""
        match event:
            case ImagesStarted():
                self.started = event
            case Progress(stage="image", done=step):
                self.step = int(step)
            case ImageCompleted():
                self.completed.append(event)
                self.created_at = int(time.time())
        self._on_event(event)

    def move_to(self, store: Callable[[bytes, str], str]) -> list[str]:
        """Move the contents of the images, in order, to a store; return their names in the store."""
        self.completed.sort(key=lambda image: image.image)
        names = [store(image.content, self.format) for image in self.completed]
        self.completed = [replace(image, content=b"") for image in self.completed]
        return names

    @property
    def size(self) -> str:
        """The size as OpenAI writes it, such as "1024x1024"."""
        assert self.started is not None
        return f"{self.started.width}x{self.started.height}"

    def usage(self, images: Sequence[ImageCompleted]) -> dict[str, Any]:
        """Return the usage object for the input and these images."""
        assert self.started is not None
        input_tokens, image_tokens = self.started.prompt_tokens, self.started.image_tokens
        output_tokens = sum(image.token_count for image in images)
        return {
            "input_tokens": input_tokens,
            "input_tokens_details": {"image_tokens": image_tokens, "text_tokens": input_tokens - image_tokens},
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        }

    def body(self, fields: ImageFields) -> dict[str, Any]:
        """Return the body of OpenAI's response, with the images in order."""
        images = sorted(self.completed, key=lambda image: image.image)
        return {
            "created": self.created_at,
            "data": [{**fields(image), "seed": image.seed} for image in images],
            "background": _background(any(image.transparent for image in images)),
            "output_format": self.format,
            "size": self.size,
            "usage": self.usage(images),
        }


class ImageCollector(Collector[Event]):
    """Collects the images into OpenAI's response."""

    def __init__(self, results: ImageResults, fields: ImageFields = base64_fields) -> None:
        self._results = results
        self._fields = fields

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            self._results.add(event)

    async def response(self) -> Response:
        return JsonResponse(self._results.body(self._fields))


class ImageEncoder(Encoder[Event]):
    """Streams partial and completed images as they arrive."""

    def __init__(self, results: ImageResults) -> None:
        self._results = results

    def encode(self, events: Sequence[Event]) -> list[Message]:
        messages = []
        for event in events:
            self._results.add(event)
            if isinstance(event, PartialImage | ImageCompleted):
                messages.append(self._message(event))
        return messages

    def _message(self, image: PartialImage | ImageCompleted) -> Message:
        results = self._results
        if isinstance(image, ImageCompleted):
            kind, own_fields = "completed", {"seed": image.seed, "usage": results.usage([image])}
        else:
            kind, own_fields = "partial_image", {"partial_image_index": image.index}
        name = f"{'image_edit' if results.is_edit else 'image_generation'}.{kind}"
        fields = {
            "type": name,
            "b64_json": base64_text(image.content),
            "created_at": int(time.time()),
            "size": results.size,
            "quality": "auto",
            "background": _background(image.transparent),
            "output_format": results.format,
            # Not part of OpenAI's API, whose streams have one image.
            "image_index": image.image,
        }
        return Message(dumps({**fields, **own_fields}), event=name)


def _background(transparent: bool) -> str:
    return "transparent" if transparent else "opaque"

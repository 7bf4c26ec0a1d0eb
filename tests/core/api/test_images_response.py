"""Events of image requests become responses and streams."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
from mlx_host._apis.images.response import ImageCollector, ImageEncoder, ImageResults
from mlx_host.api.http import collect
from mlx_host.events import Event, Finished, ImageCompleted, ImagesStarted, PartialImage
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest, ImageRequest

from tests.support.fake_service import MODEL, ListedReply

STARTED = ImagesStarted(prompt_tokens=5, width=32, height=16, steps=2, image_tokens=2)


def image(number: int, transparent: bool = False) -> ImageCompleted:
    return ImageCompleted(number, 10 + number, 3, b"image %d" % number, transparent)


def generation(n: int = 1) -> ImageGenerationRequest:
    return ImageGenerationRequest(id="r", model="m", prompt="p", seed=10, n=n)


def response(events: Sequence[Event], request: ImageRequest) -> Any:
    reply = ListedReply([events], request=request)
    collector = ImageCollector(ImageResults(MODEL, request))

    async def run() -> Any:
        await collect(reply, collector)
        return json.loads(bytes((await collector.response()).body))

    return asyncio.run(run())


def test_a_response_has_the_images_in_their_order() -> None:
    body = response([STARTED, image(1, transparent=True), image(0), Finished()], generation(2))
    assert [base64.b64decode(each["b64_json"]) for each in body["data"]] == [b"image 0", b"image 1"]
    assert [each["seed"] for each in body["data"]] == [10, 11]
    assert (body["size"], body["output_format"], body["background"]) == ("32x16", "png", "transparent")
    assert body["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"image_tokens": 2, "text_tokens": 3},
        "output_tokens": 6,
        "total_tokens": 11,
    }


@pytest.mark.parametrize(
    ("request_", "prefix"),
    [
        (generation(), "image_generation"),
        (ImageEditRequest(id="r", model="m", prompt="p", seed=1, images=[b""]), "image_edit"),
    ],
)
def test_a_stream_has_an_event_for_each_image(request_: ImageRequest, prefix: str) -> None:
    encoder = ImageEncoder(ImageResults(MODEL, request_))
    messages = encoder.encode([STARTED, PartialImage(0, 0, b"partial"), image(0), Finished()])
    assert [message.event for message in messages] == [f"{prefix}.partial_image", f"{prefix}.completed"]
    partial, completed = (json.loads(message.data) for message in messages)
    assert (partial["type"], partial["partial_image_index"]) == (f"{prefix}.partial_image", 0)
    assert base64.b64decode(completed["b64_json"]) == b"image 0"
    assert completed["usage"]["output_tokens"] == 3

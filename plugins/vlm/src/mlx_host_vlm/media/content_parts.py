"""Finds the images and audio clips in a conversation, without decoding or fetching them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlx_host.errors import InvalidRequestError
from mlx_host.requests import Json
from mlx_host_media.audio import FORMATS

Kind = Literal["image", "audio"]
DETAILS = (None, "auto", "low", "high", "original")


@dataclass(frozen=True)
class Part:
    """An image or audio clip: `source` is the URL of an image, or the base64 data of audio.

    `where` locates it in the request. `low_detail` is OpenAI's "detail": "low" of an image.
    """

    kind: Kind
    where: str
    source: str
    low_detail: bool = False


def kind_of(part: Any) -> Kind | None:
    """The kind of a message's content part; None for text and unknown types."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    return "image" if kind == "image_url" else "audio" if kind == "input_audio" else None


def find_parts(messages: Sequence[Json]) -> list[Part]:
    """Return all images and audio clips in order; InvalidRequestError if one is malformed."""
    return [part for number, message in enumerate(messages) for part in _find(message, f"messages[{number}]")]


def _find(message: Any, where: str) -> Iterator[Part]:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str) or not isinstance(content, Sequence):
        return
    for number, part in enumerate(content):
        location = f"{where}.content[{number}]"
        match kind_of(part):
            case "image":
                yield _image(part.get("image_url"), location)
            case "audio":
                yield _audio(part.get("input_audio"), location)


def _image(value: Any, where: str) -> Part:
    image = {"url": value} if isinstance(value, str) else value
    url = image.get("url") if isinstance(image, Mapping) else None
    if not isinstance(url, str):
        raise InvalidRequestError(
            f'{where}.image_url must be {{"url": "data:image/png;base64,..."}}.', param="messages"
        )
    detail = image.get("detail")
    if detail not in DETAILS:
        raise InvalidRequestError(
            f"{where}.image_url.detail is {detail!r}; supported: auto, low, high, original.", param="messages"
        )
    return Part("image", where, url, low_detail=detail == "low")


def _audio(value: Any, where: str) -> Part:
    data, name = (value.get("data"), value.get("format")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(data, str):
        raise InvalidRequestError(
            f'{where}.input_audio must be {{"data": "<base64>", "format": "wav"}}.', param="messages"
        )
    if name not in FORMATS:
        raise InvalidRequestError(
            f"{where}.input_audio.format is {name!r}; supported: {', '.join(FORMATS)}.", param="messages"
        )
    return Part("audio", where, data)

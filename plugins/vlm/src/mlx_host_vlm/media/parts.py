"""Finds the pictures and sounds in a conversation; nothing is read or fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlx_host.errors import InvalidRequest
from mlx_host.requests import Json

Kind = Literal["image", "audio"]
AUDIO_FORMATS = ("wav", "mp3")
DETAILS = (None, "auto", "low", "high", "original")


@dataclass(frozen=True)
class Part:
    """A picture or sound: `source` is a URL, or base64 if it is a sound; `where` names its place in the request.

    `small` says that a coarse look at a picture is all that is wanted.
    """

    kind: Kind
    where: str
    source: str
    small: bool = False


def kind_of(part: Any) -> Kind | None:
    """What a message's part holds, if it is no text."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    return "image" if kind == "image_url" else "audio" if kind == "input_audio" else None


def find_parts(messages: Sequence[Json]) -> list[Part]:
    """All pictures and sounds, in the order in which they come; InvalidRequest if one is malformed."""
    return [part for number, message in enumerate(messages) for part in _of(message, f"messages[{number}]")]


def _of(message: Any, where: str) -> Iterator[Part]:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str) or not isinstance(content, Sequence):
        return
    for number, part in enumerate(content):
        place = f"{where}.content[{number}]"
        match kind_of(part):
            case "image":
                yield _picture(part.get("image_url"), place)
            case "audio":
                yield _sound(part.get("input_audio"), place)


def _picture(value: Any, where: str) -> Part:
    given = {"url": value} if isinstance(value, str) else value
    url = given.get("url") if isinstance(given, Mapping) else None
    if not isinstance(url, str):
        raise InvalidRequest(f'{where}.image_url must be {{"url": "data:image/png;base64,..."}}', param="messages")
    detail = given.get("detail")
    if detail not in DETAILS:
        raise InvalidRequest(
            f"{where}.image_url.detail is {detail!r}; auto, low, high and original are taken", param="messages"
        )
    return Part("image", where, url, small=detail == "low")


def _sound(value: Any, where: str) -> Part:
    data, form = (value.get("data"), value.get("format")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(data, str):
        raise InvalidRequest(
            f'{where}.input_audio must be {{"data": base64, "format": "wav" or "mp3"}}', param="messages"
        )
    if form not in AUDIO_FORMATS:
        raise InvalidRequest(f"{where}.input_audio.format is {form!r}; wav and mp3 are taken", param="messages")
    return Part("audio", where, data)

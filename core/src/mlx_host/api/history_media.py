"""Replaces images and audio in the history of a conversation that the model does not accept.

A client cannot change the history: a rejection would end the conversation for good, for example if a tool has returned
an image to a text model. Only the last message is rejected, and only if the user has written it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mlx_host.requests import Json

MODALITIES = {"image_url": "image", "input_audio": "audio"}
"""The kind of input by the type of a content part in a chat message."""
OMITTED = {
    "image_url": "[An image was omitted: this model does not accept images.]",
    "input_audio": "[An audio clip was omitted: this model does not accept audio.]",
    "file": "[A file was omitted: this model does not accept files.]",
}
"""The text that replaces a part that the model does not accept, by the type of the part."""


def omit_media(messages: Sequence[Json], accepted: Collection[str] | None) -> tuple[Sequence[Json], set[str]]:
    """Return the messages with replaced parts, and the types of those parts.

    `accepted` are the kinds of input that the model accepts; None, if they are unknown, changes nothing.
    """
    if accepted is None:
        return messages, set()
    omitted = {kind for kind, modality in MODALITIES.items() if modality not in accepted}
    found: set[str] = set()
    history = messages[:-1] if messages and messages[-1].get("role") == "user" else messages
    kept = [_without(message, omitted, found) for message in history]
    return ([*kept, *messages[len(history) :]] if found else messages), found


def _without(message: Json, omitted: Collection[str], found: set[str]) -> Json:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in omitted:
            found.add(str(kind))
            parts.append({"type": "text", "text": OMITTED[str(kind)]})
        else:
            parts.append(part)
    return {**message, "content": parts}

"""Converts the content of messages with images and audio to what the model's chat template expects.

Most templates accept a list of typed parts and render the model's placeholder tokens for them. Some accept text only:
mlx-vlm has the placeholders for those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_host.errors import InvalidRequestError
from mlx_host_text.conversation import typed_text
from mlx_host_text.messages import text_content, text_part

from mlx_host_vlm.media.content_parts import Kind, kind_of

Render = Callable[[Sequence[Mapping[str, Any]]], str | None]
"""Messages to text; None if the template raises."""
AddPlaceholders = Callable[[list[dict[str, str]]], str | None]
"""Parts to text with the model's placeholders; None if they are unknown."""

PROBE_TEXT = "probetext"
PART_NAMES: dict[Kind, str] = {"image": "image_url", "audio": "input_audio"}
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


@dataclass(frozen=True)
class ContentLayout:
    """The content format of one model; `kinds` are the media that it supports.

    Without `accepts_strings` the template accepts lists of parts only; with `add_placeholders` it accepts text only.
    `placeholders` is the text that represents one medium in a prompt, as far as it is known.
    """

    kinds: frozenset[Kind]
    accepts_strings: bool = True
    add_placeholders: AddPlaceholders | None = None
    placeholders: Mapping[Kind, str] = field(default_factory=dict)

    def content(self, content: Any, where: str) -> Any:
        """A message's content for the template; InvalidRequestError for parts that the model does not support."""
        if content is None or isinstance(content, str) or not isinstance(content, Sequence):
            text = text_content(content, where)
            return text if self.accepts_strings or not text else [typed_text(text)]
        parts = [self._part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
        if all(part["type"] == "text" for part in parts):
            text = "\n".join(part["text"] for part in parts)
            return text if self.accepts_strings else [typed_text(text)]
        return parts if self.add_placeholders is None else self.add_placeholders(parts)

    def check(self, text: str, counts: Mapping[Kind, int], param: str) -> None:
        """Check that a prompt has one placeholder per medium, so that none is lost and no text is mistaken for one.

        `counts` is the number of media of each kind.
        """
        for kind, placeholder in self.placeholders.items():
            rendered, expected = text.count(placeholder), counts.get(kind, 0)
            if rendered > expected:
                raise InvalidRequestError(
                    f"{placeholder!r} is this model's placeholder for an {PART_NAMES[kind]}; remove it from the text.",
                    param=param,
                )
            if rendered < expected:
                raise InvalidRequestError(
                    f"The model's chat template renders only {rendered} of the {expected} {PART_NAMES[kind]} "
                    "parts. Some templates drop the parts of certain roles, or all but one part of each message.",
                    param=param,
                )

    def _part(self, part: Any, where: str) -> dict[str, str]:
        name = part.get("type") if isinstance(part, Mapping) else None
        kind = kind_of(part)
        if kind in self.kinds:
            return {"type": str(kind)}
        if not isinstance(name, str) or name in TEXT_PARTS:
            return typed_text(text_part(part, where))
        raise InvalidRequestError(
            f"{where} is of type {name!r}; this model supports {self._supported(name)}.", param="messages"
        )

    def _supported(self, instead_of: str) -> str:
        if not self.kinds:
            other = instead_of in PART_NAMES.values()
            return "text only; run a model that supports it with --backend vlm" if other else "text only"
        names = [PART_NAMES[kind] for kind in sorted(self.kinds, reverse=True)]
        hint = "; send some of its frames as image_url parts" if "video" in instead_of and "image" in self.kinds else ""
        return f"parts of the types {', '.join(['text', *names])}{hint}"


def detect_layout(
    render: Render, add_placeholders: AddPlaceholders, candidates: Mapping[Kind, Sequence[str]]
) -> ContentLayout:
    """Detect, by rendering, what the template supports of the media that the network supports.

    `candidates` are the possible placeholders of each kind that the network supports.
    """
    plain = render([_user(PROBE_TEXT)])
    accepts_strings = plain is not None and PROBE_TEXT in plain
    listed = render([_user([typed_text(PROBE_TEXT)])])
    rendered = {kind: render([_user([{"type": kind}, typed_text(PROBE_TEXT)])]) for kind in candidates}
    supported = {kind: text for kind, text in rendered.items() if text is not None and _has_placeholder(text, listed)}
    if supported or not accepts_strings:
        placeholders = _find_placeholders(supported, candidates)
        return ContentLayout(frozenset(supported), accepts_strings=accepts_strings, placeholders=placeholders)
    added = {kind: add_placeholders([{"type": kind}, typed_text(PROBE_TEXT)]) for kind in candidates}
    texts = {kind: text for kind, text in added.items() if text and text != PROBE_TEXT}
    return ContentLayout(
        frozenset(texts), add_placeholders=add_placeholders, placeholders=_find_placeholders(texts, candidates)
    )


def _has_placeholder(text: str, without: str | None) -> bool:
    """Whether the image or audio part was rendered, and not as a Python repr."""
    return PROBE_TEXT in text and "{'" not in text and text != without


def _find_placeholders(texts: Mapping[Kind, str], candidates: Mapping[Kind, Sequence[str]]) -> dict[Kind, str]:
    """For each kind, the candidate that occurs once in the text rendered for one medium."""
    once = {kind: [each for each in candidates[kind] if text.count(each) == 1] for kind, text in texts.items()}
    return {kind: found[0] for kind, found in once.items() if found}


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}

"""The content format of templates is detected, and messages are converted to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host_vlm.content_layout import ContentLayout, detect_layout
from mlx_host_vlm.media.content_parts import Kind


def concatenating_template(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """A template that concatenates contents."""
    return "".join("<s>" + str(message["content"]) for message in messages)


def part_list_template(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """A template that accepts lists of parts only."""
    placeholders = {"image": "<I>", "audio": "<A>"}
    parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
    return "<s>" + "".join(placeholders.get(part["type"]) or part["text"] for part in parts)


def add_placeholders(parts: list[dict[str, str]]) -> str | None:
    return "".join(part.get("text", "<image>" if part["type"] == "image" else "") for part in parts)


IMAGE = {"type": "image_url", "image_url": {"url": "u"}}


CANDIDATES: dict[Kind, Sequence[str]] = {"image": ("<unused>", "<I>", "<image>"), "audio": ("<A>",)}


class TestContentLayout:
    def test_a_template_of_part_lists_gets_part_lists(self) -> None:
        layout = detect_layout(part_list_template, add_placeholders, CANDIDATES)
        assert layout.kinds == {"image", "audio"}
        assert part_list_template([{"content": layout.content("Hi", "m")}]) == "<s>Hi"
        assert part_list_template([{"content": layout.content([IMAGE, "Hi", IMAGE], "m")}]) == "<s><I>Hi<I>"

    def test_a_template_of_strings_gets_placeholders(self) -> None:
        layout = detect_layout(concatenating_template, add_placeholders, CANDIDATES)
        assert layout.kinds == {"image"}
        assert layout.content(["Hi", IMAGE, {"type": "text", "text": "ho"}], "m") == "Hi<image>ho"
        assert layout.content([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "m") == "a\nb"

    def test_a_template_without_placeholders_supports_text_only(self) -> None:
        layout = detect_layout(concatenating_template, lambda parts: None, {"image": ["<image>"]})
        with pytest.raises(InvalidRequestError, match="--backend vlm"):
            layout.content([IMAGE], "m")

    def test_each_image_and_clip_has_one_placeholder(self) -> None:
        layout = detect_layout(part_list_template, add_placeholders, CANDIDATES)
        layout.check("<s><I>Hi<I><A>", {"image": 2, "audio": 1}, "messages")
        with pytest.raises(InvalidRequestError, match="'<I>'"):
            layout.check("<s><I>Hi<I>", {"image": 1}, "messages")
        with pytest.raises(InvalidRequestError, match="1 of the 2"):
            layout.check("<s><I>Hi", {"image": 2}, "messages")

    def test_unknown_placeholders_are_not_counted(self) -> None:
        detect_layout(part_list_template, add_placeholders, {"image": ["<other>"]}).check(
            "<s>", {"image": 2}, "messages"
        )

    @pytest.mark.parametrize(
        ("part", "message"),
        [
            ({"type": "input_audio"}, r"m.content\[0\] is of type 'input_audio'; .* of the types text, image_url\.$"),
            ({"type": "video_url"}, "send some of its frames as image_url parts"),
            ({"type": "file"}, "text, image_url"),
            ({"type": "text"}, "with a type and a text"),
            ({}, "with a type and a text"),
            (7, "with a type and a text"),
        ],
    )
    def test_unsupported_parts_are_named(self, part: Any, message: str) -> None:
        with pytest.raises(InvalidRequestError, match=message):
            ContentLayout(frozenset({"image"})).content([part], "m")

"""`mlx_host.backend.message_text`, the content of messages for text-only models."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_host.backend import message_text
from mlx_host.errors import UnsupportedRequestError


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Hello", "Hello"),
        ("", ""),
        ([], ""),
        ([{"type": "text", "text": "Hello"}], "Hello"),
        ([{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}], "Hello there"),
    ],
)
def test_text_parts_are_joined(content: Any, text: str) -> None:
    assert message_text({"role": "user", "content": content}) == text


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "user"}, "no content"),
        ({"role": "user", "content": None}, "no content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "'image_url'"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}, "'input_audio'"),
        ({"role": "user", "content": [{"type": "text"}]}, "'text'"),
        ({"role": "user", "content": [{}]}, "None"),
    ],
)
def test_other_content_is_rejected(message: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedRequestError, match=named) as error:
        message_text(message)
    assert (error.value.status, error.value.param) == (400, "messages")

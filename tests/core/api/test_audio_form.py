"""Parts of the audio endpoints that need no server: stripped text, and the schema of the form."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mlx_host._apis.audio.response import StrippedText
from mlx_host._apis.audio.schema import form_schema


@given(st.lists(st.text(alphabet=" \nab", max_size=5), max_size=12))
def test_deltas_join_to_the_stripped_text(chunks: list[str]) -> None:
    stripped = StrippedText()
    deltas = [stripped.add(chunk) for chunk in chunks]
    assert "".join(deltas) == stripped.text == "".join(chunks).strip()


def test_the_form_is_described_for_openapi() -> None:
    described = form_schema()
    assert described["required"] == ["file"]
    assert {"file", "model", "language", "prompt", "temperature", "response_format", "stream"} <= set(
        described["properties"]
    )

"""Parts of the audio endpoints that need no server: text in pieces, and the description of the form."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mlx_host._apis.audio.routes import Stripped, schema


@given(st.lists(st.text(alphabet=" \nab", max_size=5), max_size=12))
def test_pieces_join_to_the_stripped_text(pieces: list[str]) -> None:
    stripped = Stripped()
    out = [stripped.add(piece) for piece in pieces]
    assert "".join(out) == stripped.whole == "".join(pieces).strip()


def test_the_form_is_described_for_openapi() -> None:
    described = schema()
    assert described["required"] == ["file"]
    assert {"file", "model", "language", "prompt", "temperature", "response_format", "stream"} <= set(
        described["properties"]
    )

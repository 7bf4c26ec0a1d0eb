"""Data URLs and base64 are decoded leniently, or rejected."""

from __future__ import annotations

import base64
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_host_media.data_urls import decode_base64, decode_data_url, is_data_url
from mlx_host_media.errors import MediaError

from tests.support.edge_case_images import BROKEN_DATA_URLS, DATA_URLS


@pytest.mark.parametrize("variant", DATA_URLS)
def test_all_variants_decode_to_the_same_bytes(variant: str) -> None:
    url = DATA_URLS[variant]
    assert is_data_url(url)
    assert decode_data_url(url) == decode_data_url(DATA_URLS["as usual"])


def test_percent_encoding_and_url_safe_base64() -> None:
    assert decode_data_url("data:,a%20b") == b"a b"
    assert decode_base64("-_-_", "invalid_audio") == decode_base64("+/+/", "invalid_audio")


@pytest.mark.parametrize("url", [url for name, url in BROKEN_DATA_URLS.items() if name != "no data"])
def test_invalid_data_urls_are_rejected(url: str) -> None:
    with pytest.raises(MediaError) as error:
        decode_data_url(url)
    assert error.value.code == "invalid_image"


@pytest.mark.parametrize("url", ["http://example.org/data:", "file:///etc/passwd", "", "data", "/data:"])
def test_other_urls_are_not_data_urls(url: str) -> None:
    assert not is_data_url(url)


@given(st.binary(max_size=40), st.sampled_from(("image/png", "", "image/png;charset=utf-8", "x")))
def test_encoded_bytes_are_decoded(content: bytes, media_type: str) -> None:
    encoded = base64.b64encode(content).decode()
    assert decode_data_url(f"data:{media_type};base64,{encoded}") == content
    assert decode_data_url(f"data:{media_type},{quote(content)}") == content
    assert decode_base64(encoded, "invalid_audio") == content


@settings(max_examples=300)
@given(st.text("data:image/png;base64,=%+-_AZ09\n é\0", max_size=40) | st.text(max_size=40))
def test_any_text_is_decoded_or_rejected(text: str) -> None:
    for decode in (decode_data_url, lambda text: decode_base64(text, "invalid_image")):
        with suppress(MediaError):
            assert isinstance(decode(text), bytes)

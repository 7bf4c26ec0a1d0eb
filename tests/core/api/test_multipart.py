"""Multipart forms: they are parsed independently of how they are split; invalid ones are rejected."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import httpx2
import pytest
from fastapi import Request
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_host.api import multipart
from mlx_host.api.errors import UnsupportedMediaTypeError
from mlx_host.api.http import ClientDisconnectError
from mlx_host.errors import InvalidRequestError
from starlette.types import Message

CONTENT_TYPE = "multipart/form-data; boundary=b"


def read(
    chunks: Sequence[bytes], content_type: str = CONTENT_TYPE, disconnect: bool = False
) -> multipart.MultipartForm:
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append(
        {"type": "http.disconnect"} if disconnect else {"type": "http.request", "body": b"", "more_body": False}
    )

    async def receive() -> Message:
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", content_type.encode())]}
    return asyncio.run(multipart.read(Request(scope, receive)))


def part(head: str, content: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + content + b"\r\n"


END = b"--b--\r\n"
CONTENT = b"\r\n--bytes\0\xff\r\n"
FORM = (
    part('name="language"', "français".encode())
    + part('name="file"; filename="a b.wav"\r\nContent-Type: audio/wav', CONTENT)
    + part('name="granularities[]"', b"word")
    + part('name="granularities[]"', b"segment")
    + END
)


@given(st.lists(st.integers(0, len(FORM)), max_size=12))
def test_splitting_has_no_effect(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(FORM)]
    form = read([FORM[a:b] for a, b in pairwise(bounds)])
    assert form.fields == {"language": ["français"], "granularities": ["word", "segment"]}
    assert form.files == {"file": [multipart.UploadedFile("a b.wav", CONTENT)]}


def test_the_form_of_a_client_is_parsed() -> None:
    files = {"file": ("speech.ogg", bytes(range(256)) * 1000)}
    request = httpx2.Request("POST", "http://test/", data={"a": ["1", "2"], "b": ""}, files=files)
    form = read([request.read()], request.headers["content-type"])
    assert form.fields == {"a": ["1", "2"], "b": [""]}
    assert form.files == {"file": [multipart.UploadedFile(*files["file"])]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "incomplete"),
        (FORM[:-8], "incomplete"),
        (b"no form at all", "not valid multipart/form-data"),
        (b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n" + END, "has no name"),
        (part('name="language"', b"\xff") + END, "language is not valid UTF-8"),
        (part('name="x"', b"") * 101 + END, "the limit is 100"),
        (part('name="x"', b"a" * 1_000_001) + END, "1,000,000 bytes"),
        (b"--b\r\n" + b"x" * 100_000, "not valid multipart/form-data"),
    ],
    ids=["empty", "cut", "none", "nameless", "latin", "many", "long", "header"],
)
def test_an_invalid_form_is_rejected(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        read([body])


def test_the_content_type_must_be_multipart() -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="application/json"):
        read([FORM], "application/json")
    with pytest.raises(InvalidRequestError):
        read([FORM], "multipart/form-data")
    with pytest.raises(InvalidRequestError):
        read([FORM], f"multipart/form-data; boundary={'b' * 1000}")


def test_a_disconnect_is_not_an_invalid_form() -> None:
    with pytest.raises(ClientDisconnectError):
        read([FORM[:50]], disconnect=True)


@settings(max_examples=300)
@given(
    st.integers(0, len(FORM)), st.integers(0, 40), st.binary(max_size=8) | st.sampled_from((b"--b", b"\r\n", b"--b--"))
)
def test_damaged_forms_are_parsed_or_rejected(at: int, removed: int, inserted: bytes) -> None:
    with suppress(InvalidRequestError):
        form = read([FORM[:at] + inserted + FORM[at + removed :]])
        assert all(isinstance(text, str) for texts in form.fields.values() for text in texts)


@given(st.text(max_size=40).map(lambda text: text.encode("latin-1", "replace").decode("latin-1")))
def test_any_content_type_is_parsed_or_rejected(parameters: str) -> None:
    with suppress(InvalidRequestError, UnsupportedMediaTypeError):
        read([FORM], f"multipart/form-data; {parameters}")

"""Forms: whatever pieces they come in, what they hold is found; what is wrong with them is said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import httpx2
import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from mlx_host.api import multipart
from mlx_host.api.errors import UnsupportedMediaTypeError
from mlx_host.api.http import ClientDisconnectError
from mlx_host.errors import InvalidRequest
from starlette.types import Message

KIND = "multipart/form-data; boundary=b"


def read(pieces: Sequence[bytes], kind: str = KIND, leaves: bool = False) -> multipart.MultipartForm:
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append(
        {"type": "http.disconnect"} if leaves else {"type": "http.request", "body": b"", "more_body": False}
    )

    async def receive() -> Message:
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", kind.encode())]}
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
def test_how_a_form_is_cut_does_not_show(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(FORM)]
    form = read([FORM[a:b] for a, b in pairwise(places)])
    assert form.fields == {"language": ["français"], "granularities": ["word", "segment"]}
    assert form.files == {"file": [multipart.UploadedFile("a b.wav", CONTENT)]}


def test_what_a_client_writes_is_read() -> None:
    files = {"file": ("speech.ogg", bytes(range(256)) * 1000)}
    request = httpx2.Request("POST", "http://test/", data={"a": ["1", "2"], "b": ""}, files=files)
    form = read([request.read()], request.headers["content-type"])
    assert form.fields == {"a": ["1", "2"], "b": [""]}
    assert form.files == {"file": [multipart.UploadedFile(*files["file"])]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ends early"),
        (FORM[:-8], "ends early"),
        (b"no form at all", "cannot be read"),
        (b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n" + END, "has no name"),
        (part('name="language"', b"\xff") + END, "language: not valid UTF-8"),
        (part('name="x"', b"") * 101 + END, "more than 100 parts"),
        (part('name="x"', b"a" * 1_000_001) + END, "more than 1,000,000 bytes of text"),
        (b"--b\r\n" + b"x" * 100_000, "cannot be read"),
    ],
    ids=["empty", "cut", "none", "nameless", "latin", "many", "long", "header"],
)
def test_a_bad_form_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read([body])


def test_the_content_type_must_fit() -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="not as 'application/json'"):
        read([FORM], "application/json")
    with pytest.raises(InvalidRequest, match="no boundary"):
        read([FORM], "multipart/form-data")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read([FORM], f"multipart/form-data; boundary={'b' * 1000}")


def test_a_client_that_leaves_is_no_fault() -> None:
    with pytest.raises(ClientDisconnectError):
        read([FORM[:50]], leaves=True)

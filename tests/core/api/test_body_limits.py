"""Bodies that are too large, compressed or have too many values are rejected while they arrive."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host._http.json_size import MAX_CONTAINERS, JsonSize

from tests.support.server import ServerProcess

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.text(alphabet='\\"{[,]}'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def expected(value: Any) -> tuple[int, int]:
    """Count containers, and items beyond the first of each container."""
    if not isinstance(value, list | dict):
        return 0, 0
    members = list(value.values()) if isinstance(value, dict) else value
    counts = [expected(member) for member in members]
    return 1 + sum(c for c, _ in counts), max(0, len(members) - 1) + sum(i for _, i in counts)


@given(JSON, st.lists(st.integers(min_value=1, max_value=7), min_size=1), st.booleans())
def test_count_does_not_depend_on_how_the_body_is_split(value: Any, sizes: list[int], ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode(errors="replace")
    size, at, number = JsonSize(), 0, 0
    while at < len(body):
        step = sizes[number % len(sizes)]
        size.add(body[at : at + step])
        at, number = at + step, number + 1
    assert (size.containers, size.items) == expected(json.loads(body))


def rejection(server: ServerProcess, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    response = httpx.post(
        f"{server.url}{path}", content=body, headers={"content-type": "application/json", **headers}, timeout=60
    )
    return response.status_code, response.json()["error"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate"])
def test_compressed_body_is_rejected_by_name(server: ServerProcess, path: str, encoding: str) -> None:
    body = gzip.compress(b'{"messages": [{"role": "user", "content": "hi"}]}')
    status, error = rejection(server, path, body, **{"content-encoding": encoding})
    assert (status, error["code"]) == (415, "unsupported_content_encoding")
    assert repr(encoding) in error["message"]


def test_identity_encoding_is_accepted(server: ServerProcess) -> None:
    response = httpx.post(
        f"{server.url}/tokenize",
        content=b'{"prompt": "hi"}',
        headers={"content-type": "application/json", "content-encoding": "identity"},
    )
    assert response.status_code != 415


@pytest.mark.parametrize("name", ["messages", "tools"])
def test_too_many_values_are_rejected_before_they_are_parsed(server: ServerProcess, name: str) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    function = {"type": "function", "function": {"name": "f"}}
    item = {"role": "user", "content": "hi"} if name == "messages" else function
    body[name] = [item] * (MAX_CONTAINERS + 1)
    status, error = rejection(server, "/v1/chat/completions", json.dumps(body).encode())
    assert (status, error["code"]) == (413, "request_too_large")
    assert str(MAX_CONTAINERS) in error["message"]


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data"]
)
def test_body_that_is_not_declared_as_json_is_rejected(server: ServerProcess, content_type: str) -> None:
    body = b'{"messages": [{"role": "user", "content": "hi"}]}'
    status, error = rejection(server, "/v1/chat/completions", body, **{"content-type": content_type})
    assert (status, error["code"]) == (415, "unsupported_media_type")

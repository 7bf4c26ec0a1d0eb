"""Vectors become OpenAI's response; output that breaks the backend contract is an error, never invalid JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host._apis.embeddings.response import (
    MAX_VECTORS_PER_TURN,
    EmbeddingCollector,
    VectorEncoder,
    base64_json,
    floats_json,
)
from mlx_host.api.http import BackendContractError, collect
from mlx_host.events import EmbeddingBatch, Event, Finished, Started
from mlx_host.requests import EmbeddingRequest

from tests.support.fake_service import ListedReply

STARTED = Started(prompt_tokens=7)


def vectors(*values: Sequence[float]) -> bytes:
    return b"".join(array("f", each).tobytes() for each in values)


def reply_of(events: Sequence[Event], inputs: int) -> ListedReply:
    request = EmbeddingRequest(id="r", model="any", inputs=["text"] * inputs)
    return ListedReply([events], request=request, prompt_tokens=7)


def response(events: Sequence[Event], inputs: int, encode: VectorEncoder = floats_json) -> Any:
    async def run() -> Any:
        reply = reply_of(events, inputs)
        collector = EmbeddingCollector(reply, encode)
        await collect(reply, collector)
        return json.loads(bytes((await collector.response()).body))

    return asyncio.run(run())


def test_vectors_are_in_the_order_of_the_inputs() -> None:
    events = [
        STARTED,
        EmbeddingBatch((2, 0), vectors([2, 3], [0, 1])),
        EmbeddingBatch((1,), vectors([1, 2])),
        Finished(),
    ]
    assert response(events, 3) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0, 1]},
            {"object": "embedding", "index": 1, "embedding": [1, 2]},
            {"object": "embedding", "index": 2, "embedding": [2, 3]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_both_encodings_are_exact(values: list[float]) -> None:
    events = [STARTED, EmbeddingBatch((0,), vectors(values)), Finished()]
    (as_floats,) = response(events, 1)["data"]
    assert array("f", as_floats["embedding"]) == array("f", values)
    (as_base64,) = response(events, 1, base64_json)["data"]
    assert base64.b64decode(as_base64["embedding"]) == vectors(values)


def test_many_vectors_are_encoded_with_breaks() -> None:
    """However many vectors arrive at once, other tasks run after every MAX_VECTORS_PER_TURN of them."""
    count = MAX_VECTORS_PER_TURN * 3 + 1
    events = [STARTED, EmbeddingBatch(tuple(range(count)), vectors(*([number] for number in range(count)))), Finished()]
    encoded: list[bytes] = []

    def encode(vector: bytes) -> bytes:
        encoded.append(vector)
        return floats_json(vector)

    async def run() -> tuple[list[int], Any]:
        seen = []

        async def other_task() -> None:
            while True:
                seen.append(len(encoded))
                await asyncio.sleep(0)

        reply = reply_of(events, count)
        collector = EmbeddingCollector(reply, encode)
        other = asyncio.create_task(other_task())
        await asyncio.sleep(0)
        await collect(reply, collector)
        body = json.loads(bytes((await collector.response()).body))
        other.cancel()
        return seen, body

    seen, body = asyncio.run(run())
    per_turn = [after - before for before, after in pairwise([*seen, count])]
    assert max(per_turn) <= MAX_VECTORS_PER_TURN
    assert [each["embedding"] for each in body["data"]] == [[number] for number in range(count)]


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([EmbeddingBatch((0, 1), vectors([1], [math.nan]))], "returned vector 1 with a value that is not finite"),
        ([EmbeddingBatch((0, 1), vectors([math.inf], [1]))], "returned vector 0 with a value that is not finite"),
        ([EmbeddingBatch((0, 1), vectors([math.inf, -math.inf], [1, 1]))], "returned vector 0 with a value"),
    ],
)
@pytest.mark.parametrize("encode", [floats_json, base64_json])
def test_values_that_are_not_finite_are_an_error_that_names_the_backend(
    events: list[Event], fault: str, encode: VectorEncoder
) -> None:
    with pytest.raises(BackendContractError, match=f"'m'.*'toy'.*{fault}") as rejection:
        response([STARTED, *events, Finished()], 2, encode)
    assert rejection.value.status == 500

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mlx_host._bench.client import Client, Workload
from mlx_host._bench.http_client import Target
from mlx_host.errors import UsageError

from tests.support.stub_server import DONE, STREAM_HEAD, chunk, models, response, serving, usage

WORKLOAD = Workload("tiny", max_tokens=16, prompt_tokens=20, salt="s-")


def client(url: str) -> Client:
    return Client(Target.parse(url), timeout=30)


async def respond(path: str, body: bytes) -> AsyncIterator[bytes]:
    yield STREAM_HEAD + chunk("a") + chunk("b") + usage(4) + DONE


def test_every_request_is_made_and_counted() -> None:
    bodies: list[dict[str, Any]] = []
    ended: list[None] = []

    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        bodies.append(json.loads(body))
        assert path == "/v1/chat/completions"
        yield STREAM_HEAD + chunk("a") + usage(4, prompt_tokens=len(bodies)) + DONE

    with serving(script) as url:
        point = asyncio.run(client(url).measure(WORKLOAD, 3, 7, on_end=lambda: ended.append(None)))
    assert (point.concurrency, point.requests, len(point.completed), point.failed) == (3, 7, 7, ())
    assert sum(result.completion_tokens for result in point.completed) == 28
    assert sum(result.prompt_tokens for result in point.completed) == 1 + 2 + 3 + 4 + 5 + 6 + 7
    assert len(ended) == 7
    assert len({body["messages"][0]["content"] for body in bodies}) == 7
    for body in bodies:
        assert len(body.pop("messages")[0]["content"].split()) == 20
        assert body == {
            "model": "tiny",
            "max_tokens": 16,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def test_concurrency_is_exact() -> None:
    in_flight = 0
    most = 0
    third = asyncio.Event()

    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        if in_flight == 3:
            third.set()
        await third.wait()  # no response before three requests have arrived
        in_flight -= 1
        yield STREAM_HEAD + chunk("a") + usage(1) + DONE

    with serving(script) as url:
        point = asyncio.run(client(url).measure(WORKLOAD, 3, 9))
    assert len(point.completed) == 9
    assert most == 3


def test_failures_and_results_are_counted() -> None:
    number = 0

    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        nonlocal number
        number += 1
        match number % 4:
            case 0:
                yield response(b'{"error": {"message": "full"}}', status=429)
            case 1:
                yield STREAM_HEAD + chunk("cut")
            case 2:
                yield STREAM_HEAD + chunk("a") + b'event: error\ndata: {"error": {"message": "broken"}}\n\n'
            case _:
                yield STREAM_HEAD + chunk("a") + usage(1) + DONE

    with serving(script) as url:
        point = asyncio.run(client(url).measure(WORKLOAD, 2, 8))
    assert len(point.completed) == 2
    assert sorted(failure.reason for failure in point.failed) == sorted(
        ["HTTP 429: full", "the connection was closed after 1 chunk of text", "error event: broken"] * 2
    )


def test_the_probe_reports_why_a_server_cannot_be_measured() -> None:
    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        yield response(b'{"error": {"message": "no such model"}}', status=404)

    with serving(script) as url, pytest.raises(UsageError, match="'tiny': HTTP 404"):
        asyncio.run(client(url).warm_up(WORKLOAD))


def test_the_probe_accepts_a_working_server() -> None:
    with serving(respond) as url:
        asyncio.run(client(url).warm_up(WORKLOAD))


def test_models_are_those_the_server_lists() -> None:
    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        assert path == "/v1/models"
        yield models("a", "b/c")

    with serving(script) as url:
        assert asyncio.run(client(url).models()) == ["a", "b/c"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (response(b"not found", status=404), "returned HTTP 404: not found"),
        (response(b"[]"), "did not return a list of models"),
        (response(b"<html>"), "did not return a list of models"),
    ],
)
def test_an_invalid_model_list_is_an_error(reply: bytes, expected: str) -> None:
    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        yield reply

    with serving(script) as url, pytest.raises(UsageError, match=expected):
        asyncio.run(client(url).models())

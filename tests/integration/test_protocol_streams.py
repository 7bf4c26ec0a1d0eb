"""Keep-alive comments in streams, and limits of request bodies."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mlx_host._http.middleware import BodyLimit
from mlx_host.api.json_io import HTTPExceptionAdapter
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from tests.support.client import (
    CHAT,
    connection,
    error_of,
    eventually,
    head,
    post,
    read_until,
    script,
    sdk,
    text_script,
    wait_for_queue,
)
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def talkative() -> Iterator[ServerProcess]:
    """A server with one slot, frequent keep-alive comments and a small body limit."""
    with running_server(
        "--backend", "scripted", "--slots", "1", "--keep-alive", "0.1", "--max-body-mb", "0.01"
    ) as server:
        yield server


def lines_until(response: httpx2.Response, part: str) -> list[str]:
    """Read lines until one contains `part`."""
    read = []
    for line in response.iter_lines():
        read.append(line)
        if part in line:
            return read
    raise AssertionError(f"no {part!r} in {read}")


def test_idle_stream_reports_its_progress_in_comments(talkative: ServerProcess, tmp_path: Path) -> None:
    busy, first, second = (tmp_path / name for name in ("busy", "first", "second"))
    steps: list[list[Any]] = [["progress", 3, 9], ["until", str(first)], ["text", "a"], ["until", str(second)]]
    with connection(talkative) as running:
        body = json.dumps({"messages": script(["until", str(busy)])}).encode()
        running.sendall(head(body) + body)
        wait_for_queue(talkative, 1)
        with httpx2.stream("POST", talkative.url + CHAT, json={"messages": script(*steps), "stream": True}) as response:
            assert response.status_code == 200
            lines = response.iter_lines()

            def next_line(part: str) -> str:
                return next(line for line in lines if part in line)

            assert next_line(":") == ": queued"
            busy.touch()
            assert '"role":"assistant"' in next_line("data: ")
            assert next_line(": prefill") == ": prefill 3/9"
            first.touch()
            assert '"content":"a"' in next_line('"content":"a"')
            assert next_line(": keep") == ": keep-alive"
            second.touch()
            assert next_line("[DONE]")


def test_comments_do_not_disturb_the_sdk(talkative: ServerProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with sdk(talkative) as client:
        asked: Any = {"model": "m", "messages": script(["text", "a"], ["until", str(gate)], ["text", "b"])}
        stream = client.chat.completions.create(**asked, stream=True)
        with httpx2.stream("GET", talkative.url + "/health"):
            pass
        chunks = [next(stream), next(stream)]
        wait_for_queue(talkative, 1)
        gate.touch()
        chunks += list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "ab"


def test_rejection_after_a_comment_is_an_event(talkative: ServerProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    steps = script(["before_start", ["until", str(gate)]], ["fail", "not reached"])
    with httpx2.stream("POST", talkative.url + CHAT, json={"messages": steps, "stream": True}) as response:
        lines = response.iter_lines()
        assert next(lines) == ": queued"
        gate.touch()
        data = [line for line in lines if line.startswith("data: ")]
    assert json.loads(data[-1].removeprefix("data: "))["error"]["code"] == "engine_failed"


def test_body_that_is_too_large_is_a_413(talkative: ServerProcess) -> None:
    error = error_of(post(talkative, {"messages": text_script("x" * 20_000)}), 413)
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_too_large")
    assert "0.01 MB" in error["message"]
    assert post(talkative, {"messages": text_script("x" * 5_000)}).status_code == 200


def test_body_is_rejected_by_its_content_length(talkative: ServerProcess) -> None:
    with connection(talkative) as bare:
        bare.sendall(head(b"", content_length=10**12))
        assert read_until(bare, b"\r\n").startswith(b"HTTP/1.1 413 ")


def test_chunked_body_is_rejected_when_it_exceeds_the_limit(talkative: ServerProcess) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    response = httpx2.post(
        talkative.url + CHAT, content=chunks(), headers={"content-type": "application/json"}, timeout=60
    )
    assert error_of(response, 413)["code"] == "request_too_large"
    eventually(lambda: post(talkative, {"messages": text_script("x")}).status_code == 200)


async def sent_through(limit: BodyLimit, *pieces: Message) -> list[Message]:
    """The response to these chunks of a body, followed by nothing."""
    sent: list[Message] = []
    come: asyncio.Queue[Message] = asyncio.Queue()
    for piece in pieces:
        come.put_nowait(piece)

    async def send(message: Message) -> None:
        sent.append(message)

    await limit({"type": "http", "headers": []}, come.get, send)
    return sent


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        response = PlainTextResponse(await Request(scope, receive).body())
    except HTTPExceptionAdapter as error:
        response = PlainTextResponse(error.error.message, error.status_code)
    await response(scope, receive, send)


def test_incomplete_body_times_out() -> None:
    limit = BodyLimit(echo, megabytes=1, timeout=0.01)
    start, body = asyncio.run(sent_through(limit, {"type": "http.request", "body": b"{", "more_body": True}))
    assert start["status"] == 408
    assert b"no data arrived for 0.01 seconds" in body["body"]


def test_body_limit_can_be_disabled() -> None:
    limit = BodyLimit(echo, megabytes=math.inf)
    start, body = asyncio.run(sent_through(limit, {"type": "http.request", "body": b"{}", "more_body": False}))
    assert (start["status"], body["body"]) == (200, b"{}")

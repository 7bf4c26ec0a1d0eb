"""Disconnects at every moment of a request: the request is cancelled and nothing leaks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import (
    connection,
    eventually,
    get,
    head,
    post,
    read_until,
    request_bytes,
    script,
    sdk,
    text_script,
    wait_for_queue,
)
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--backend", "scripted", "--slots", "1") as running:
        yield running


def outcomes(server: ServerProcess, since: int) -> list[str]:
    """The outcomes of the requests logged since then."""
    return re.findall(r" mlx_host\.requests: .* outcome=(\S+)", "\n".join(server.lines[since:]))


def works(server: ServerProcess) -> bool:
    response = post(server, {"messages": text_script("still", " here")})
    return bool(response.json()["choices"][0]["message"]["content"] == "still here")


@pytest.mark.parametrize("stream", [False, True])
def test_before_the_first_token(server: ServerProcess, tmp_path: Path, stream: bool) -> None:
    since = len(server.lines)
    with connection(server) as bare:
        bare.sendall(request_bytes({"messages": script(["until", str(tmp_path / "never")]), "stream": stream}))
        wait_for_queue(server, 1)
    wait_for_queue(server, 0)
    assert works(server)
    eventually(lambda: outcomes(server, since) == ["cancelled", "stop"])


@pytest.mark.parametrize("stream", [False, True])
def test_before_the_request_is_accepted(server: ServerProcess, tmp_path: Path, stream: bool) -> None:
    with connection(server) as bare:
        steps = script(["before_start", ["until", str(tmp_path / "never")]])
        bare.sendall(request_bytes({"messages": steps, "stream": stream}))
        wait_for_queue(server, 1)
    wait_for_queue(server, 0)
    assert works(server)


def test_during_a_stream(server: ServerProcess) -> None:
    since = len(server.lines)
    with connection(server) as bare:
        bare.sendall(request_bytes({"messages": script(["repeat", "on and on"]), "stream": True}))
        read_until(bare, b"on and on")
    wait_for_queue(server, 0)
    assert works(server)
    eventually(lambda: outcomes(server, since) == ["cancelled", "stop"])


def test_during_a_plain_response(server: ServerProcess, tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    with connection(server) as bare:
        steps = script(["text", "a"], ["touch_file", str(reached)], ["repeat", "x"])
        bare.sendall(request_bytes({"messages": steps}))
        eventually(reached.exists)
    wait_for_queue(server, 0)
    assert works(server)


@pytest.mark.parametrize("stream", [False, True])
def test_while_queued(server: ServerProcess, tmp_path: Path, stream: bool) -> None:
    gate, reached = tmp_path / "gate", tmp_path / "reached"
    with connection(server) as running:
        running.sendall(request_bytes({"messages": script(["until", str(gate)])}))
        wait_for_queue(server, 1)
        with connection(server) as waiting:
            waiting.sendall(request_bytes({"messages": script(["touch_file", str(reached)]), "stream": stream}))
            wait_for_queue(server, 1, 1)
        wait_for_queue(server, 1, 0)
        gate.touch()
        read_until(running, b"200 OK")
    assert works(server)
    assert not reached.exists()


def test_behind_another_request_on_the_same_connection(server: ServerProcess) -> None:
    with connection(server) as bare:
        endless = request_bytes({"messages": script(["repeat", "on and on"]), "stream": True})
        bare.sendall(endless + request_bytes({"messages": text_script("second")}))
        read_until(bare, b"on and on")
    wait_for_queue(server, 0)
    assert works(server)


def test_after_done_the_request_is_not_cancelled(server: ServerProcess) -> None:
    since = len(server.lines)
    asked: Any = {"model": "m", "messages": text_script("a", "b"), "stream": True}
    for _ in range(5):
        with sdk(server) as client:
            list(client.chat.completions.create(**asked))
        with connection(server) as bare:
            bare.sendall(request_bytes(asked))
            read_until(bare, b"[DONE]\n\n")
    wait_for_queue(server, 0)
    eventually(lambda: len(outcomes(server, since)) == 10)
    assert set(outcomes(server, since)) == {"stop"}


def test_before_the_body_is_complete(server: ServerProcess) -> None:
    whole = json.dumps({"messages": text_script("hi")}).encode()
    for sent in (0, 1, len(whole) // 2, len(whole) - 1):
        with connection(server) as bare:
            bare.sendall(head(whole) + whole[:sent])
            assert works(server)
    with connection(server) as bare:
        bare.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhos")
        assert works(server)
    wait_for_queue(server, 0)


def test_incomplete_requests_hold_no_slot(server: ServerProcess) -> None:
    whole = json.dumps({"messages": text_script("late")}).encode()
    with connection(server) as slow, connection(server) as slower:
        slow.sendall(head(whole) + whole[:-1])
        slower.sendall(head(whole)[:-10])
        assert works(server)
        slow.sendall(whole[-1:])
        assert b"late" in read_until(slow, b"finish_reason")
        slower.sendall(head(whole)[-10:] + whole)
        assert b"late" in read_until(slower, b"finish_reason")


def test_unread_response_frees_the_slot_when_the_model_is_finished(server: ServerProcess) -> None:
    with connection(server) as unread:
        long = "x" * 1000
        unread.sendall(request_bytes({"messages": script(["repeat", long]), "max_tokens": 20_000, "stream": True}))
        read_until(unread, b"data: ")
        wait_for_queue(server, 0)
        assert works(server)
        assert get(server, "/health").status_code == 200

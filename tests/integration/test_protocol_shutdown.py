"""Shutdown: signals, draining, exit codes, and no process left."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.support.client import (
    CHAT,
    children,
    connection,
    error_of,
    eventually,
    get,
    head,
    post,
    read_until,
    script,
    text_script,
    wait_for_queue,
)
from tests.support.server import ServerProcess, running_server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def gone(server: ServerProcess, child: psutil.Process) -> bool:
    return server.process.poll() is not None and not child.is_running()


def refuses_connections(server: ServerProcess) -> bool:
    try:
        get(server, "/health")
    except httpx2.TransportError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_shuts_the_server_and_its_model_down(number: signal.Signals) -> None:
    with running_server("--backend", "scripted") as server:
        (child,) = children(server)
        assert post(server, {"messages": text_script("a")}).status_code == 200
        assert server.stop(number) == 0
        assert gone(server, child)
        assert not any("Traceback" in line for line in server.lines)


@pytest.fixture
def hangups_ignored() -> Iterator[None]:
    """Ignore SIGHUP like nohup; the started process inherits this."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_ignored")
def test_with_nohup_the_server_outlives_its_terminal() -> None:
    with running_server("--backend", "scripted") as server:
        server.process.send_signal(signal.SIGHUP)
        assert post(server, {"messages": text_script("a")}).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_loading(number: signal.Signals, tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--load-until", str(tmp_path / "never"), wait_ready=False) as server:
        (child,) = eventually(lambda: children(server))
        assert server.stop(number) == 0
        assert gone(server, child)
        assert not any("Traceback" in line for line in server.lines)


def test_draining_finishes_accepted_requests_and_rejects_new_ones(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running_server("--backend", "scripted", "--slots", "1") as server:
        steps = script(["text", "a"], ["until", str(gate)], ["text", "b"])
        plain = pool.submit(post, server, {"messages": steps})
        wait_for_queue(server, 1)
        streamed = pool.submit(post, server, {"messages": steps, "stream": True})
        wait_for_queue(server, 1, 1)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: refuses_connections(server))
        gate.touch()
        assert plain.result().json()["choices"][0]["message"]["content"] == "ab"
        assert streamed.result().text.endswith("data: [DONE]\n\n")
        assert server.process.wait(30) == 0


def cut_off(server: ServerProcess, pool: ThreadPoolExecutor, tmp_path: Path, *signals: signal.Signals) -> None:
    """Check that a running, a streaming and a queued request fail with an error, and that the server exits."""
    (child,) = children(server)
    body = {"messages": script(["text", "a"], ["until", str(tmp_path / "never")])}
    plain = pool.submit(post, server, body)
    streamed = pool.submit(post, server, {**body, "stream": True})
    wait_for_queue(server, 2)
    waiting = pool.submit(post, server, {**body, "stream": True})
    wait_for_queue(server, 2, 1)
    for number in signals:
        server.process.send_signal(number)
        server.wait_for_line("shutting down (3 active requests)")
    for rejected in (plain, waiting):
        assert error_of(rejected.result(), 503)["code"] == "model_unavailable"
    last = json.loads(streamed.result().text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "model_unavailable"
    assert server.process.wait(30) == 0
    assert gone(server, child)


def test_requests_are_cancelled_after_the_shutdown_timeout(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--slots", "2", "--shutdown-timeout", "0.5") as server:
        cut_off(server, pool, tmp_path, signal.SIGTERM)


def test_second_signal_cancels_requests_immediately(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--slots", "2", "--shutdown-timeout", "600") as server:
        cut_off(server, pool, tmp_path, signal.SIGINT, signal.SIGINT)


def test_hanging_model_does_not_prevent_shutdown(pool: ThreadPoolExecutor) -> None:
    with running_server("--backend", "scripted", "--shutdown-timeout", "0.1") as server:
        (child,) = children(server)
        hanging = pool.submit(post, server, {"messages": script(["hang"])})
        wait_for_queue(server, 1)
        assert server.stop(signal.SIGTERM) == 0
        assert error_of(hanging.result(), 503)["code"] == "model_unavailable"
        assert gone(server, child)


def test_incomplete_body_does_not_prevent_shutdown() -> None:
    with running_server("--backend", "scripted", "--shutdown-timeout", "0.1") as server, connection(server) as bare:
        bare.sendall(head(b"{}").replace(b"host: test\r\n", b"host: test\r\nexpect: 100-continue\r\n"))
        read_until(bare, b"100 Continue")
        assert server.stop(signal.SIGTERM) == 0
        assert not any("Traceback" in line for line in server.lines)


def test_open_connection_does_not_prevent_shutdown() -> None:
    with running_server("--backend", "scripted") as server, httpx2.Client(base_url=server.url) as client:
        assert client.post(CHAT, json={"messages": text_script("a")}).status_code == 200
        assert server.stop(signal.SIGTERM) == 0


def test_shutdown_while_the_model_is_restarting() -> None:
    with running_server("--backend", "scripted") as server:
        (child,) = children(server)
        child.kill()
        server.wait_for_line("Restarting in")
        assert server.stop(signal.SIGTERM) == 0


def test_port_in_use_is_a_usage_error() -> None:
    with running_server("--backend", "scripted") as server:
        port = server.url.rpartition(":")[2]
        with running_server("--backend", "scripted", "--port", port, wait_ready=False) as second:
            assert second.process.wait(60) == 2
            assert second.wait_for_line(f"127.0.0.1:{port}")
            assert not any("Traceback" in line for line in second.lines)

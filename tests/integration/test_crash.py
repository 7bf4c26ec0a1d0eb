"""Crashes, stalls and load failures of worker processes: what fails, and what continues."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest

from tests.support.client import (
    CHAT,
    children,
    connection,
    error_of,
    eventually,
    get,
    post,
    queue,
    request_bytes,
    script,
    sdk,
    text_script,
    wait_for_queue,
)
from tests.support.server import ServerProcess, running_server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def stream_text(server: ServerProcess, body: dict[str, Any]) -> str:
    return post(server, {**body, "stream": True}).text


def last_error(text: str) -> dict[str, Any]:
    """The error that a stream ended with, after checking that it has no [DONE]."""
    assert "[DONE]" not in text
    *chunks, last = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line.startswith("data")]
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk["choices"])
    error: dict[str, Any] = last["error"]
    return error


def test_crash_under_load(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    config, blocked = tmp_path / "mlx-host.toml", tmp_path / "blocked"
    config.write_text(
        '[[models]]\nbackend = "scripted"\nserved_model_name = "one"\nslots = 3\n'
        '[[models]]\nbackend = "scripted"\nserved_model_name = "two"\n'
    )
    with running_server("--config", str(config)) as server:
        other_gate = tmp_path / "other"
        other = pool.submit(
            post, server, {"model": "two", "messages": script(["text", "a"], ["until", str(other_gate)])}
        )
        wait_for_queue_of(server, "two", (1, 0))
        forever = {
            "model": "one",
            "messages": script(["text", "a"], ["touch_file", str(blocked)], ["until", str(tmp_path / "x")]),
        }
        running = pool.submit(post, server, forever)
        flowing = pool.submit(stream_text, server, forever)
        eventually(blocked.exists)
        wait_for_queue_of(server, "one", (2, 0))
        # Not started when the process crashes; the restarted process starts it, and it waits for this file.
        gate = tmp_path / "gate"
        begun_once = script(["before_start", ["until", str(gate)]], ["text", "replayed"])
        replayed = pool.submit(post, server, {"model": "one", "messages": begun_once})
        wait_for_queue_of(server, "one", (3, 0))
        waiting = [pool.submit(post, server, {"model": "one", "messages": text_script(str(n))}) for n in range(3)]
        wait_for_queue_of(server, "one", (3, 3))
        first, second = children(server)
        (victim,) = [child for child in (first, second) if child.pid == pid_of(server, "one")]
        victim.kill()
        for error in (error_of(running.result(), 500), last_error(flowing.result())):
            assert error["code"] == "engine_failed"
            assert error["message"].endswith("exited while running the request (killed by SIGKILL).")
        gate.touch()
        assert replayed.result().json()["choices"][0]["message"]["content"] == "replayed"
        responses = [future.result().json()["choices"][0]["message"]["content"] for future in waiting]
        assert responses == ["0", "1", "2"]
        other_gate.touch()
        assert other.result().status_code == 200
        assert get(server, "/health/ready").status_code == 200
        wait_for_queue(server, 0)


def pid_of(server: ServerProcess, model: str) -> int:
    """The process ID of a model, by the order in which the processes were started."""
    pids = sorted(child.pid for child in children(server))
    return pids[0 if model == "one" else 1]


def wait_for_queue_of(server: ServerProcess, model: str, expected: tuple[int, int]) -> None:
    eventually(lambda: queue(server, model) == expected)


def test_request_that_kills_every_process_fails_and_the_model_recovers() -> None:
    with running_server("--backend", "scripted") as server:
        error = error_of(post(server, {"messages": script(["before_start", ["kill"]])}), 500)
        assert error["code"] == "engine_failed"
        assert post(server, {"messages": text_script("alive")}).status_code == 200
        assert server.wait_for_line("Ready again").count("INFO") == 1


def test_crash_during_a_stream_is_an_error_of_the_sdk() -> None:
    with running_server("--backend", "scripted") as server, sdk(server) as client:
        dying: Any = script(["text", "a"], ["kill"])
        with pytest.raises(openai.InternalServerError, match="SIGKILL"):
            client.chat.completions.create(model="m", messages=dying)
        stream = client.chat.completions.create(model="m", messages=dying, stream=True)
        with pytest.raises(openai.APIError, match="SIGKILL"):
            list(stream)
        fine: Any = text_script("fine")
        assert client.chat.completions.create(model="m", messages=fine).choices[0].message.content == "fine"


def test_event_that_cannot_be_unpickled_ends_the_process_and_not_the_host() -> None:
    with running_server("--backend", "scripted") as server:
        assert error_of(post(server, {"messages": script(["unpicklable"])}), 500)["code"] == "engine_failed"
        assert post(server, {"messages": text_script("alive")}).status_code == 200
        assert any("could not be unpickled" in line for line in server.lines)


def test_crash_while_restarting_is_counted(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    gate = tmp_path / "exists"
    gate.touch()
    with running_server("--backend", "scripted", "--die-once", str(gate)) as server:
        gate.unlink()
        (child,) = children(server)
        child.kill()
        assert post(server, {"messages": text_script("back")}).status_code == 200
        assert sum("Restarting in" in line for line in server.lines) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_stalled_process_logs_its_stacks_and_is_restarted(stream: bool, tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--stall-timeout", "1") as server:
        response = post(server, {"messages": script(["text", "a"], ["hang"]), "stream": stream})
        error = last_error(response.text) if stream else error_of(response, 500)
        assert error["code"] == "engine_failed"
        assert "1 s" in error["message"]
        server.wait_for_line("no progress for 1 s with 1 running requests")
        assert any("mlx_host_scripted.py" in line and "_do" in line for line in server.lines)
        assert post(server, {"messages": text_script("back")}).status_code == 200


def test_stall_is_detected_after_the_client_has_disconnected() -> None:
    with running_server("--backend", "scripted", "--slots", "1", "--stall-timeout", "1") as server:
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(server.url + CHAT, json={"messages": script(["hang"])}, timeout=0.3)
        wait_for_queue(server, 0)
        server.wait_for_line("no progress for 1 s with 0 running requests")
        assert post(server, {"messages": text_script("back")}).status_code == 200


def test_idle_model_and_slow_load_are_not_stalls(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with running_server("--backend", "scripted", "--stall-timeout", "0.2", "--load-until", str(gate)) as server:
        (child,) = children(server)
        assert post(server, {"messages": text_script("a")}).status_code == 200
        idle_since = time.monotonic()
        eventually(lambda: time.monotonic() - idle_since > 0.5)
        assert post(server, {"messages": text_script("a")}).status_code == 200
        assert children(server) == [child]
        gate.unlink()
        child.kill()
        server.wait_for_line("Restarting in")
        eventually(lambda: children(server))
        gate.touch()
        assert post(server, {"messages": text_script("a")}).status_code == 200
        assert sum("Restarting in" in line for line in server.lines) == 1


def test_request_that_ends_the_process_is_not_retried_by_the_sdk() -> None:
    with running_server("--backend", "scripted") as server, sdk(server).with_options(max_retries=2) as client:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="m", messages=script(["kill"]))
        assert post(server, {"messages": text_script("back")}).status_code == 200
        assert sum("Restarting in" in line for line in server.lines) == 1


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_child_processes_of_a_model_are_killed_with_it(tmp_path: Path) -> None:
    with running_server("--backend", "scripted") as server:
        error_of(post(server, {"messages": script(["spawn", str(tmp_path / "pid")], ["kill"])}), 500)
        started = int((tmp_path / "pid").read_text())
        eventually(lambda: is_gone(started))


def test_stacks_of_a_crash_are_in_the_log() -> None:
    with running_server("--backend", "scripted") as server:
        (child,) = children(server)
        # Then it waits for requests and has already reported that it is ready.
        assert post(server, {"messages": text_script("hello")}).status_code == 200
        child.send_signal(signal.SIGSEGV)
        server.wait_for_line("the model's process exited (killed by SIGSEGV); stack traces:")
        server.wait_for_line("engine/loop.py")
        assert post(server, {"messages": text_script("back")}).status_code == 200


def test_killed_host_leaves_no_orphan(tmp_path: Path) -> None:
    for options in ([], ["--load-until", str(tmp_path / "never")]):
        with running_server("--backend", "scripted", *options, wait_ready=not options) as server:
            (child,) = eventually(lambda: children(server))
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
            psutil.wait_procs([child], timeout=30)
            assert not child.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_killed_host_leaves_no_orphan_that_is_blocked(tmp_path: Path) -> None:
    with running_server("--backend", "scripted") as server, connection(server) as bare:
        (child,) = children(server)
        bare.sendall(request_bytes({"messages": script(["touch_file", str(tmp_path / "gripped")], ["hold_gil"])}))
        eventually((tmp_path / "gripped").exists)
        os.kill(server.process.pid, signal.SIGKILL)
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running()


def test_load_failure_is_reported_and_ends_the_server() -> None:
    with running_server("--backend", "scripted", "--fail-load", wait_ready=False) as server:
        assert server.process.wait(60) == 1
        assert server.wait_for_line("fail_load is set")
        assert not any("Traceback" in line for line in server.lines)


def test_crash_while_loading_is_reported_and_ends_the_server(tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--die-once", str(tmp_path / "missing"), wait_ready=False) as server:
        assert server.process.wait(60) == 1
        assert server.wait_for_line("killed by SIGKILL")


def test_one_load_failure_ends_a_strict_server_while_another_model_loads(tmp_path: Path) -> None:
    config = tmp_path / "mlx-host.toml"
    never = json.dumps(str(tmp_path / "never"))
    config.write_text(
        f'[[models]]\nbackend = "scripted"\nserved_model_name = "slow"\nload_until = {never}\n'
        '[[models]]\nbackend = "scripted"\nserved_model_name = "bad"\nfail_load = true\n'
    )
    with running_server("--config", str(config), "--strict", wait_ready=False) as server:
        assert server.process.wait(60) == 1
        assert server.wait_for_line("model bad: failed: fail_load is set")


def test_models_that_all_fail_end_the_server(tmp_path: Path) -> None:
    config = tmp_path / "mlx-host.toml"
    config.write_text(
        f'[[models]]\nbackend = "scripted"\nserved_model_name = "dies"\ndie_once = {json.dumps(str(tmp_path / "x"))}\n'
        '[[models]]\nbackend = "scripted"\nserved_model_name = "bad"\nfail_load = true\n'
    )
    with running_server("--config", str(config), wait_ready=False) as server:
        assert server.process.wait(60) == 1
        assert server.wait_for_line("model bad: failed: fail_load is set")
        assert "SIGKILL" in server.wait_for_line("model dies: failed: ")


def test_failed_model_is_reported_while_the_others_serve_and_is_retried(tmp_path: Path) -> None:
    config = tmp_path / "mlx-host.toml"
    gate, dies = tmp_path / "gate", json.dumps(str(tmp_path / "dies"))
    config.write_text(
        '[[models]]\nbackend = "scripted"\nserved_model_name = "good"\n'
        '[[models]]\nbackend = "scripted"\nserved_model_name = "bad"\nfail_load = true\n'
        f'[[models]]\nbackend = "scripted"\nserved_model_name = "dies"\ndie_once = {dies}\n'
        f"load_until = {json.dumps(str(gate))}\n"
    )
    with running_server("--config", str(config), wait_ready=False) as server:
        server.wait_for_line("model bad: failed: fail_load is set. Not retrying.")
        gate.touch()
        server.wait_for_line(
            "model dies: failed: The model's process exited while loading (killed by SIGKILL). Retrying"
        )
        # Then it is still being reloaded when the others are ready.
        gate.unlink()
        server.url = server.wait_for_line("ready: good at ").rpartition(" at ")[2].removesuffix("/v1")
        assert post(server, {"model": "good", "messages": text_script("a")}).status_code == 200
        errors = get(server, "/health").json()["errors"]
        assert errors["bad"] == {"message": "fail_load is set", "retry_at": None, "retry_in": None}
        assert "killed by SIGKILL" in errors["dies"]["message"]
        rejected = post(server, {"model": "bad", "messages": text_script("a")})
        assert error_of(rejected, 503)["code"] == "model_unavailable"
        assert (rejected.headers["x-should-retry"], "retry-after" in rejected.headers) == ("false", False)
        gate.touch()
        eventually(lambda: get(server, "/health").json()["models"]["dies"] == "ready")
        assert post(server, {"model": "dies", "messages": text_script("b")}).status_code == 200
        assert list(get(server, "/health").json()["errors"]) == ["bad"]


def test_rejection_during_retries_has_the_time_of_the_next_attempt(tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--load-until", str(tmp_path)) as server:
        for crashes in range(1, 4):
            (child,) = eventually(lambda: get(server, "/health/ready").status_code == 200 and children(server))
            child.kill()
            server.wait_for_line("model scripted: failed" if crashes == 3 else f"Restarting in {0.5 * crashes} s")
        failure = get(server, "/health").json()["errors"]["scripted"]
        rejected = post(server, {"messages": text_script("a")})
        assert failure["retry_at"] is not None
        assert 0 < failure["retry_in"] <= 5
        assert error_of(rejected, 503)["code"] == "model_unavailable"
        assert 1 <= int(rejected.headers["retry-after"]) <= 5
        assert "x-should-retry" not in rejected.headers
        eventually(lambda: get(server, "/health/ready").status_code == 200)
        assert post(server, {"messages": text_script("back")}).status_code == 200


def test_protocol_violation_fails_only_its_request() -> None:
    with running_server("--backend", "scripted") as server:
        (child,) = children(server)
        error = error_of(post(server, {"messages": script(["text", "a", 7])}), 500)
        assert error["code"] == "engine_failed"
        assert "'scripted'" in error["message"]
        assert "choice 7 in a request for 1" in error["message"]
        server.wait_for_line("backend 'scripted' violated the event protocol")
        assert post(server, {"messages": text_script("alive")}).status_code == 200
        assert children(server) == [child]

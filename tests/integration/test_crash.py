"""A model's process that dies, stalls or cannot load costs as little as it must."""

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
    says,
    script,
    sdk,
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
    """The error that a stream ended with; it must not pretend success."""
    assert "[DONE]" not in text
    *chunks, last = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line.startswith("data")]
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk["choices"])
    error: dict[str, Any] = last["error"]
    return error


def test_death_under_load(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    config, blocked = tmp_path / "mlx-host.toml", tmp_path / "blocked"
    config.write_text(
        '[[models]]\nbackend = "scripted"\nserved_model_name = "one"\nslots = 3\n'
        '[[models]]\nbackend = "scripted"\nserved_model_name = "two"\n'
    )
    with running_server("--config", str(config)) as server:
        other_gate = tmp_path / "other"
        other = pool.submit(
            post, server, {"model": "two", "messages": script(["say", "a"], ["until", str(other_gate)])}
        )
        wait_for_queue_of(server, "two", (1, 0))
        forever = {
            "model": "one",
            "messages": script(["say", "a"], ["touch", str(blocked)], ["until", str(tmp_path / "x")]),
        }
        running = pool.submit(post, server, forever)
        flowing = pool.submit(stream_text, server, forever)
        eventually(blocked.exists)
        wait_for_queue_of(server, "one", (2, 0))
        # Not begun when its process dies, but begun, by the next one, behind this gate.
        gate = tmp_path / "gate"
        begun_once = script(["before", ["until", str(gate)]], ["say", "replayed"])
        replayed = pool.submit(post, server, {"model": "one", "messages": begun_once})
        wait_for_queue_of(server, "one", (3, 0))
        waiting = [pool.submit(post, server, {"model": "one", "messages": says(str(n))}) for n in range(3)]
        wait_for_queue_of(server, "one", (3, 3))
        first, second = children(server)
        (victim,) = [child for child in (first, second) if child.pid == pid_of(server, "one")]
        victim.kill()
        for error in (error_of(running.result(), 500), last_error(flowing.result())):
            assert error["code"] == "engine_failed"
            assert error["message"].endswith("exited while running the request (killed by SIGKILL).")
        gate.touch()
        assert replayed.result().json()["choices"][0]["message"]["content"] == "replayed"
        answers = [future.result().json()["choices"][0]["message"]["content"] for future in waiting]
        assert answers == ["0", "1", "2"]
        other_gate.touch()
        assert other.result().status_code == 200
        assert get(server, "/health/ready").status_code == 200
        wait_for_queue(server, 0)


def pid_of(server: ServerProcess, model: str) -> int:
    """The process of a model, told by the order in which they were started."""
    pids = sorted(child.pid for child in children(server))
    return pids[0 if model == "one" else 1]


def wait_for_queue_of(server: ServerProcess, model: str, expected: tuple[int, int]) -> None:
    eventually(lambda: queue(server, model) == expected)


def test_request_that_kills_every_process_is_given_up_and_the_model_lives() -> None:
    with running_server("--backend", "scripted") as server:
        error = error_of(post(server, {"messages": script(["before", ["die"]])}), 500)
        assert error["code"] == "engine_failed"
        assert post(server, {"messages": says("alive")}).status_code == 200


def test_death_while_answering_is_told_by_the_sdk() -> None:
    with running_server("--backend", "scripted") as server, sdk(server) as client:
        dying: Any = script(["say", "a"], ["die"])
        with pytest.raises(openai.InternalServerError, match="killed by SIGKILL"):
            client.chat.completions.create(model="m", messages=dying)
        stream = client.chat.completions.create(model="m", messages=dying, stream=True)
        with pytest.raises(openai.APIError, match="killed by SIGKILL"):
            list(stream)
        fine: Any = says("fine")
        assert client.chat.completions.create(model="m", messages=fine).choices[0].message.content == "fine"


def test_event_that_cannot_be_read_ends_the_process_and_not_the_host() -> None:
    with running_server("--backend", "scripted") as server:
        assert error_of(post(server, {"messages": script(["unreadable"])}), 500)["code"] == "engine_failed"
        assert post(server, {"messages": says("alive")}).status_code == 200
        assert any("could not be unpickled" in line for line in server.lines)


def test_death_while_loading_again_counts_as_one_more(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    gate = tmp_path / "exists"
    gate.touch()
    with running_server("--backend", "scripted", "--die-once", str(gate)) as server:
        gate.unlink()
        (child,) = children(server)
        child.kill()
        assert post(server, {"messages": says("back")}).status_code == 200
        assert sum("Restarting in" in line for line in server.lines) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_stalled_process_says_where_it_hangs_and_is_started_again(stream: bool, tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--stall-timeout", "1") as server:
        response = post(server, {"messages": script(["say", "a"], ["hang"]), "stream": stream})
        error = last_error(response.text) if stream else error_of(response, 500)
        assert error["message"] == "The process of model 'scripted' exited while running the request (stalled for 1 s)."
        server.wait_for_line("no progress for 1 s with 1 running requests")
        assert any("mlx_host_scripted.py" in line and "_do" in line for line in server.lines)
        assert post(server, {"messages": says("back")}).status_code == 200


def test_stall_is_noticed_after_its_client_has_gone() -> None:
    with running_server("--backend", "scripted", "--slots", "1", "--stall-timeout", "1") as server:
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(server.url + CHAT, json={"messages": script(["hang"])}, timeout=0.3)
        wait_for_queue(server, 0)
        server.wait_for_line("no progress for 1 s with 0 running requests")
        assert post(server, {"messages": says("back")}).status_code == 200


def test_idle_model_and_slow_load_are_no_stall(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with running_server("--backend", "scripted", "--stall-timeout", "0.2", "--load-until", str(gate)) as server:
        (child,) = children(server)
        assert post(server, {"messages": says("a")}).status_code == 200
        idle_since = time.monotonic()
        eventually(lambda: time.monotonic() - idle_since > 0.5)
        assert post(server, {"messages": says("a")}).status_code == 200
        assert children(server) == [child]
        gate.unlink()
        child.kill()
        server.wait_for_line("Restarting in")
        eventually(lambda: children(server))
        gate.touch()
        assert post(server, {"messages": says("a")}).status_code == 200
        assert sum("Restarting in" in line for line in server.lines) == 1


def test_request_that_ends_the_process_is_not_asked_again_by_the_sdk() -> None:
    with running_server("--backend", "scripted") as server, sdk(server).with_options(max_retries=2) as client:
        with pytest.raises(openai.InternalServerError, match="exited while running the request"):
            client.chat.completions.create(model="m", messages=script(["die"]))
        assert post(server, {"messages": says("back")}).status_code == 200
        assert sum("Restarting in" in line for line in server.lines) == 1


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_what_a_model_has_started_goes_with_it(tmp_path: Path) -> None:
    with running_server("--backend", "scripted") as server:
        error_of(post(server, {"messages": script(["start", str(tmp_path / "pid")], ["die"])}), 500)
        started = int((tmp_path / "pid").read_text())
        eventually(lambda: is_gone(started))


def test_crash_leaves_its_stacks_in_the_log() -> None:
    with running_server("--backend", "scripted") as server:
        (child,) = children(server)
        # So that it waits for requests, and no longer tells that it is ready.
        assert post(server, {"messages": says("hello")}).status_code == 200
        child.send_signal(signal.SIGSEGV)
        server.wait_for_line("the model's process exited (killed by SIGSEGV); stack traces:")
        server.wait_for_line("engine/loop.py")
        assert post(server, {"messages": says("back")}).status_code == 200


def test_killed_host_leaves_no_orphan(tmp_path: Path) -> None:
    for options in ([], ["--load-until", str(tmp_path / "never")]):
        with running_server("--backend", "scripted", *options, wait_ready=not options) as server:
            (child,) = eventually(lambda: children(server))
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
            psutil.wait_procs([child], timeout=30)
            assert not child.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_killed_host_leaves_no_orphan_that_cannot_notice(tmp_path: Path) -> None:
    with running_server("--backend", "scripted") as server, connection(server) as bare:
        (child,) = children(server)
        bare.sendall(request_bytes({"messages": script(["touch", str(tmp_path / "gripped")], ["grip"])}))
        eventually((tmp_path / "gripped").exists)
        os.kill(server.process.pid, signal.SIGKILL)
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running()


def test_failure_to_load_is_told_and_ends_the_server() -> None:
    with running_server("--backend", "scripted", "--fail-load", wait_ready=False) as server:
        assert server.process.wait(60) == 1
        assert server.wait_for_line("the script says not to load")
        assert not any("Traceback" in line for line in server.lines)


def test_death_while_loading_is_told_and_ends_the_server(tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--die-once", str(tmp_path / "missing"), wait_ready=False) as server:
        assert server.process.wait(60) == 1
        assert server.wait_for_line("killed by SIGKILL")


def test_one_failure_to_load_ends_a_strict_server_while_another_model_loads(tmp_path: Path) -> None:
    config = tmp_path / "mlx-host.toml"
    never = json.dumps(str(tmp_path / "never"))
    config.write_text(
        f'[[models]]\nbackend = "scripted"\nserved_model_name = "slow"\nload_until = {never}\n'
        '[[models]]\nbackend = "scripted"\nserved_model_name = "bad"\nfail_load = true\n'
    )
    with running_server("--config", str(config), "--strict", wait_ready=False) as server:
        assert server.process.wait(60) == 1
        assert server.wait_for_line("Model 'bad' failed to load: the script says not to load")


def test_models_that_all_fail_end_the_server(tmp_path: Path) -> None:
    config = tmp_path / "mlx-host.toml"
    config.write_text(
        f'[[models]]\nbackend = "scripted"\nserved_model_name = "dies"\ndie_once = {json.dumps(str(tmp_path / "x"))}\n'
        '[[models]]\nbackend = "scripted"\nserved_model_name = "bad"\nfail_load = true\n'
    )
    with running_server("--config", str(config), wait_ready=False) as server:
        assert server.process.wait(60) == 1
        error = server.wait_for_line("No model could be loaded.")
        assert "Model 'bad' failed to load: the script says not to load" in error
        assert "Model 'dies' failed to load: The model's process exited while loading (killed by SIGKILL)." in error


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
        server.wait_for_line("model bad: failed: the script says not to load. Not retrying.")
        gate.touch()
        server.wait_for_line(
            "model dies: failed: The model's process exited while loading (killed by SIGKILL). Retrying"
        )
        # So that it is still being loaded again when the others are ready.
        gate.unlink()
        server.url = server.wait_for_line("ready: good at ").rpartition(" at ")[2].removesuffix("/v1")
        assert post(server, {"model": "good", "messages": says("a")}).status_code == 200
        errors = get(server, "/health").json()["errors"]
        assert errors["bad"] == {"message": "the script says not to load", "retry_at": None, "retry_in": None}
        assert "killed by SIGKILL" in errors["dies"]["message"]
        rejected = post(server, {"model": "bad", "messages": says("a")})
        assert error_of(rejected, 503)["code"] == "model_unavailable"
        assert (rejected.headers["x-should-retry"], "retry-after" in rejected.headers) == ("false", False)
        gate.touch()
        eventually(lambda: get(server, "/health").json()["models"]["dies"] == "ready")
        assert post(server, {"model": "dies", "messages": says("b")}).status_code == 200
        assert list(get(server, "/health").json()["errors"]) == ["bad"]


def test_rejection_by_a_model_that_is_retried_says_when(tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--load-until", str(tmp_path)) as server:
        for crashes in range(1, 4):
            (child,) = eventually(lambda: get(server, "/health/ready").status_code == 200 and children(server))
            child.kill()
            server.wait_for_line("model scripted: failed" if crashes == 3 else f"Restarting in {0.5 * crashes} s")
        failure = get(server, "/health").json()["errors"]["scripted"]
        rejected = post(server, {"messages": says("a")})
        assert failure["retry_at"] is not None
        assert 0 < failure["retry_in"] <= 5
        assert error_of(rejected, 503)["code"] == "model_unavailable"
        assert 1 <= int(rejected.headers["retry-after"]) <= 5
        assert "x-should-retry" not in rejected.headers
        eventually(lambda: get(server, "/health/ready").status_code == 200)
        assert post(server, {"messages": says("back")}).status_code == 200


def test_output_that_breaks_the_event_protocol_fails_its_request_alone() -> None:
    with running_server("--backend", "scripted") as server:
        (child,) = children(server)
        error = error_of(post(server, {"messages": script(["say", "a", 7])}), 500)
        assert error["code"] == "engine_failed"
        assert error["message"] == (
            "Backend 'scripted' violated the event protocol: TextDelta has choice 7 in a request for 1 choices."
        )
        server.wait_for_line("backend 'scripted' violated the event protocol")
        assert post(server, {"messages": says("alive")}).status_code == 200
        assert children(server) == [child]

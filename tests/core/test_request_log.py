"""The log has one line for each request, whatever its outcome, on a terminal, in a file and as JSON."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mlx_host._host.request_log import MAX_COLUMNS, RequestLog
from mlx_host.api import RequestRecord

from tests.support.client import (
    CHAT,
    connection,
    eventually,
    get,
    post,
    read_all,
    read_until,
    request_bytes,
    script,
    text_script,
    wait_for_queue,
)
from tests.support.server import ServerProcess, running_server
from tests.support.terminal import on_a_terminal

SECRET = "the-secret-of-the-prompt"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    args = ("--backend", "scripted", "--slots", "1", "--queue-size", "1", "--max-body-mb", "0.01")
    with running_server(*args, "--log-format", "json") as running:
        yield running


@pytest.fixture(autouse=True)
def url(server: ServerProcess) -> str:
    """The server's URL, which the support code finds in the text format."""
    server.url = json.loads(server.wait_for_line("ready: "))["message"].rpartition(" at ")[2].removesuffix("/v1")
    return server.url


def entry(server: ServerProcess, request_id: str) -> dict[str, Any]:
    """The log entry of a request, which must be the only one with this id."""
    (found,) = eventually(lambda: [line for line in server.lines if request_id in line])
    fields: dict[str, Any] = json.loads(found)
    return fields


def entry_of(server: ServerProcess, response: httpx2.Response) -> dict[str, Any]:
    return entry(server, response.headers["x-request-id"])


def test_a_completed_request_has_every_field(server: ServerProcess) -> None:
    response = post(server, {"model": "m", "messages": script(["text", "a"], ["text", "b"])})
    fields = entry_of(server, response)
    usage = response.json()["usage"]
    times = {key: fields.pop(key) for key in list(fields) if key.endswith("_seconds") or key == "time"}
    assert set(times) == {"time", "queue_seconds", "ttft_seconds", "duration_seconds"}
    fields.pop("tokens_per_second", None)
    assert fields == {
        "level": "info",
        "logger": "mlx_host.requests",
        "status": 200,
        "method": "POST",
        "path": CHAT,
        "model": "scripted",
        "task": "chat",
        "outcome": "stop",
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": 0,
        "completion_tokens": usage["completion_tokens"],
        "request_id": response.headers["x-request-id"],
        "response_id": response.json()["id"],
    }


def test_the_log_has_no_text_of_prompts_and_outputs(server: ServerProcess) -> None:
    response = post(server, {"messages": [{"role": "system", "content": SECRET}, *text_script(SECRET)]})
    assert SECRET in response.text
    assert SECRET not in json.dumps(entry_of(server, response))


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", CHAT, {"model": "scripted", "messages": [], "temperature": 3}, 400, "invalid_request_error"),
        ("POST", CHAT, {"model": "scripted", "messages": script(["reject", "no"])}, 400, "invalid_request_error"),
        ("POST", CHAT, {"model": "scripted", "messages": script(["fail", "no"])}, 500, "engine_failed"),
        ("GET", "/nothing", None, 404, "not_found"),
        ("PUT", CHAT, {}, 405, "method_not_allowed"),
        ("POST", CHAT, {"messages": ["x" * 20000]}, 413, "request_too_large"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_rejected_request_is_logged_with_its_error(
    server: ServerProcess, method: str, path: str, body: Any, status: int, error: str
) -> None:
    response = httpx2.request(method, f"{server.url}{path}", json=body, timeout=60, verify=False)
    fields = entry_of(server, response)
    assert (fields["status"], fields["method"], fields["path"]) == (response.status_code, method, path)
    assert (response.status_code, fields["error"]) == (status, error)
    assert fields["error_message"] == response.json()["error"]["message"]
    assert fields.get("error_param") == response.json()["error"]["param"]
    assert fields["level"] == ("warning" if status == 500 else "info")
    if body and "model" in body:
        assert fields["model"] == "scripted"


def test_other_rejections_are_logged(server: ServerProcess) -> None:
    text = httpx2.post(f"{server.url}{CHAT}", content=b"{}", headers={"content-type": "text/plain"}, verify=False)
    assert (entry_of(server, text)["status"], entry_of(server, text)["error"]) == (415, "unsupported_media_type")
    with connection(server) as bare:
        bare.sendall(b"NOT HTTP\r\n\r\n")
        answer = read_all(bare).decode()
    request_id = re.search("^x-request-id: (.*)\r$", answer, re.MULTILINE)
    assert request_id is not None
    fields = entry(server, request_id[1])
    assert (fields["status"], fields["error"]) == (400, "invalid_http")


def test_a_full_queue_and_time_in_the_queue_are_logged(server: ServerProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with ThreadPoolExecutor() as pool:
        running = pool.submit(post, server, {"messages": script(["until", str(gate)], ["text", "a"])})
        wait_for_queue(server, 1)
        waiting = pool.submit(post, server, {"messages": text_script("b")})
        wait_for_queue(server, 1, 1)
        rejected = post(server, {"messages": text_script("c")})
        assert (entry_of(server, rejected)["status"], rejected.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert entry_of(server, rejected)["error"] == "rate_limit_exceeded"
        gate.touch()
        first, second = entry_of(server, running.result()), entry_of(server, waiting.result())
    # Time to first token does not include the time in the queue.
    assert first["queue_seconds"] < first["ttft_seconds"]
    assert second["queue_seconds"] + second["ttft_seconds"] <= second["duration_seconds"] + 0.01


def test_a_client_that_disconnects_is_logged(server: ServerProcess, tmp_path: Path) -> None:
    since = len(server.lines)

    def entries() -> list[dict[str, Any]]:
        fields = [json.loads(line) for line in server.lines[since:]]
        return [each for each in fields if each.get("path") == CHAT]

    with connection(server) as bare:
        bare.sendall(request_bytes({"messages": script(["until", str(tmp_path / "never")])}))
        wait_for_queue(server, 1)
    with connection(server) as bare:
        bare.sendall(request_bytes({"messages": script(["repeat", "on and on"]), "stream": True}))
        read_until(bare, b"on and on")
    eventually(lambda: len(entries()) == 2)
    assert [(each["status"], each["outcome"], each["error"]) for each in entries()] == [
        (499, "cancelled", "client_disconnect"),
        (200, "cancelled", "client_disconnect"),
    ]


def test_an_error_within_a_stream_is_logged(server: ServerProcess) -> None:
    response = post(server, {"messages": script(["text", "a"], ["fail", "broken"]), "stream": True})
    fields = entry_of(server, response)
    assert (fields["status"], fields["outcome"], fields["error"]) == (200, "engine_failed", "engine_failed")
    assert "broken" in fields["error_message"]


def test_a_path_cannot_forge_a_line_or_control_the_terminal(server: ServerProcess) -> None:
    response = get(server, "/a%0Ab%1B%5B31mc")
    assert entry_of(server, response)["path"] == "/a\\nb\\x1b[31mc"


def test_text_that_arrives_at_once_has_no_speed(server: ServerProcess) -> None:
    response = post(server, {"messages": text_script("only")})
    assert "tokens_per_second" not in entry_of(server, response)


def test_a_terminal_has_short_lines_and_the_file_every_field(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    args = ("run", "--backend", "scripted", "--port", "0", "--log-file", str(log))
    with on_a_terminal(*args, cwd=tmp_path, columns=100) as (process, terminal):
        url = terminal.read_line("ready: ").rpartition(" at ")[2].removesuffix("/v1")
        hint = terminal.read_line("Try it: ")
        command = shlex.split(hint.removeprefix("Try it: "))
        tried = subprocess.run([*command, "--silent"], capture_output=True, check=True, timeout=60)
        assert json.loads(tried.stdout)["choices"]
        assert terminal.read_line("API documentation: ") == f"API documentation: {url}/docs"
        body = {"model": "m", "messages": script(["text", "a"], ["text", "b"])}
        ids = [
            httpx2.post(f"{url}{CHAT}", json=each, verify=False).headers["x-request-id"]
            for each in (body, {**body, "temperature": 3})
        ]
        done, rejected = (terminal.read_line(request_id.removeprefix("req_")[:6]) for request_id in ids)
        process.terminate()
        terminal.read_until("\0")
        assert process.wait(30) == 0
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d 200 POST /v1/chat/completions scripted 2→2 tok ([\d.]+ tok/s )?(queue \d+\.\d\ds )?"
        r"ttft \d+\.\d\ds \d+\.\d\ds [0-9a-f]{6}",
        done,
    )
    assert re.match(r"\d\d:\d\d:\d\d 400 POST /v1/chat/completions m \d+\.\d\ds [0-9a-f]{6} temperature: ", rejected)
    assert "shutting down (0 active requests)" in terminal.read_until("\0")
    written = log.read_text()
    for request_id in ids:
        assert written.count(f"request_id={request_id}") == 1
    assert " INFO    mlx_host.requests: 200 POST /v1/chat/completions model=scripted task=chat outcome=stop " in written
    assert 'error=invalid_request_error error_param=temperature error_message="temperature: ' in written


def short_line(caplog: pytest.LogCaptureFixture, model: str, **values: Any) -> str:
    """The terminal line of a request with typical numbers."""
    numbers = {"prompt_tokens": 5000, "cached_tokens": 4000, "completion_tokens": 1500, "gaps": (0.008,) * 1499}
    record = RequestRecord("chatcmpl-1", model, "chat", "stop", 0.0, 0.0, 0.5, 12.0, **{**numbers, **values})
    log = RequestLog("req_3f9a2c00", "POST", CHAT, status=200, complete=True, records=[record])
    log.started_at = time.monotonic() - 12.0
    with caplog.at_level("INFO", "mlx_host.requests"):
        log.finish()
    line: str = caplog.records[-1].short  # type: ignore[attr-defined]  # passed as `extra`
    return line


@pytest.mark.parametrize("model", ["Qwen3-4B-it-4bit", "mlx-community/Qwen3-VL-30B-A3B-Instruct-4bit"])
def test_a_line_has_at_most_a_hundred_columns_with_its_time(caplog: pytest.LogCaptureFixture, model: str) -> None:
    line = short_line(caplog, model)
    assert len("12:00:00 ") + len(line) <= 100
    assert MAX_COLUMNS + len("12:00:00 ") == 100
    assert " 1000+4000→1500 125 tok/s ttft 0.50s 12.0s 3f9a2c" in line
    assert line.split()[3].startswith(model[:4])
    assert line.split()[3].endswith("4bit")


def test_an_ordinary_request_on_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    numbers = {"prompt_tokens": 49, "cached_tokens": 12, "completion_tokens": 8, "gaps": (0.125,) * 7}
    line = short_line(caplog, "demo:smollm2", **numbers)
    assert line == "200 POST /v1/chat/completions demo:smollm2 37+12→8 tok 8.0 tok/s ttft 0.50s 12.0s 3f9a2c"


def test_audio_has_a_real_time_factor_and_no_speed(caplog: pytest.LogCaptureFixture) -> None:
    line = short_line(caplog, "whisper", audio_seconds=60.0)
    assert " rtf 0.20 " in line
    assert "tok/s" not in line

"""Logs: rotation, terminal and plain output, and what is never logged."""

from __future__ import annotations

import logging
import os
import re
import signal
from pathlib import Path

import pytest
from mlx_host import _logs
from mlx_host._cli.progress import LoadingDisplay
from mlx_host._engine.ipc import Loading
from mlx_host._logs.files import TimestampedRotatingFileHandler
from mlx_host.errors import UsageError

from tests.support.client import post, text_script
from tests.support.command import mlx_host
from tests.support.server import running_server
from tests.support.terminal import on_a_terminal, plain

DAY = 24 * 3600
ESCAPE = "\x1b["


def write_lines(handler: logging.Handler, *lines: str) -> None:
    for line in lines:
        handler.handle(logging.LogRecord("test", logging.INFO, "", 0, line, None, None))


def test_rotation_keeps_every_line_in_files_of_the_configured_size(tmp_path: Path) -> None:
    log = tmp_path / "sub" / "app.log"
    handler = TimestampedRotatingFileHandler(log, max_bytes=100)
    lines = [f"{number:04} {'x' * 30}" for number in range(40)]
    write_lines(handler, *lines)
    handler.close()
    files = list(log.parent.iterdir())
    assert len(files) > 10
    assert all(file.stat().st_size <= 100 for file in files)
    assert all(re.fullmatch(r"app\.log(\.\d{8}-\d{6}(\.\d+)?)?", file.name) for file in files)
    assert sorted(line for file in files for line in file.read_text().splitlines()) == lines


def test_a_log_is_appended_to_after_a_restart(tmp_path: Path) -> None:
    for line in ("first", "second"):
        handler = TimestampedRotatingFileHandler(tmp_path / "app.log")
        write_lines(handler, line)
        handler.close()
    assert (tmp_path / "app.log").read_text() == "first\nsecond\n"


def test_a_relative_path_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    handler = TimestampedRotatingFileHandler(Path("app.log"), max_bytes=10)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write_lines(handler, "a line", "another line")
    handler.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert len(list(tmp_path.glob("app.log*"))) == 2


def test_only_expired_rotated_files_are_deleted(tmp_path: Path) -> None:
    ages = {
        "a[b].log": 30,
        "a[b].log.20260101-000000": 11,
        "a[b].log.20260101-000000.1": 11,
        "a[b].log.20260105-000000": 9,
        "a[b].log.notes": 30,
        "a[b].log.20260101-000000.gz": 30,
        "ab.log.20260101-000000": 30,
        "other.txt": 30,
    }
    now = 1e9
    for name, days in ages.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now, now - days * DAY))
    handler = TimestampedRotatingFileHandler(tmp_path / "a[b].log")
    handler.delete_expired(now)
    handler.close()
    gone = set(ages) - {file.name for file in tmp_path.iterdir()}
    assert gone == {"a[b].log.20260101-000000", "a[b].log.20260101-000000.1"}


def test_expired_files_are_deleted_at_startup(tmp_path: Path) -> None:
    old = tmp_path / "logs" / "app.log.20200101-000000"
    old.parent.mkdir()
    old.touch()
    os.utime(old, (0, 0))
    log = str(old.with_name("app.log"))
    done = mlx_host("run", "--backend", "scripted", "--fail-load", "--port", "0", "--log-file", log)
    assert done.returncode == 1
    assert [file.name for file in old.parent.iterdir()] == ["app.log"]


def test_by_default_and_with_no_log_file_no_file_is_written(tmp_path: Path) -> None:
    command = ("run", "--backend", "scripted", "--fail-load", "--port", "0")
    assert mlx_host(*command, cwd=tmp_path).returncode == 1
    env = {"MLX_HOST_LOG_FILE": "app.log"}
    assert mlx_host(*command, "--no-log-file", env=env, cwd=tmp_path).returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--log-file.*Is a directory"):
        _logs.configure_logging("info", tmp_path)


def test_file_and_terminal_have_the_same_lines_without_request_content(tmp_path: Path) -> None:
    """At INFO, counts and times of a request are logged, but neither its text nor the output."""
    log = tmp_path / "app.log"
    secret = "the-secret-of-the-prompt"
    messages = [{"role": "system", "content": secret}, *text_script(f"{secret}-answered")]
    with running_server("--backend", "scripted", "--log-file", str(log)) as server:
        assert secret in post(server, {"model": "scripted", "messages": messages}).text
        server.wait_for_line("mlx_host.requests")
        server.stop()
        screen = "\n".join(server.lines) + "\n"
    assert secret not in screen
    assert " completion_tokens=1 " in screen
    assert ESCAPE not in screen
    assert log.read_text() == screen
    levels = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) +[\w.]+: .")
    assert all(levels.match(line) for line in screen.splitlines())


def test_a_terminal_has_colours_and_bars_and_the_file_is_plain(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    log = tmp_path / "app.log"
    args = ("run", "--backend", "scripted", "--port", "0", "--load-until", str(gate), "--log-file", str(log))
    with on_a_terminal(*args, cwd=tmp_path) as (process, terminal):
        terminal.read_until("scripted: load")
        gate.touch()
        terminal.read_until("ready: ")
        process.send_signal(signal.SIGTERM)
        terminal.read_until("\0")
        assert process.wait(30) == 0
        shown = terminal.shown
    assert f"{ESCAPE}" in shown
    assert re.search(r"scripted: load.*━+", shown)
    assert "ready: scripted at http://127.0.0.1:" in plain(shown)
    text = log.read_text()
    assert ESCAPE not in text
    assert "ready: scripted at http://127.0.0.1:" in text


def test_without_a_terminal_loading_is_logged_in_lines() -> None:
    with running_server("--backend", "scripted") as server:
        begun, done = (line for line in server.lines if "mlx_host.loading" in line)
    assert begun.endswith("scripted: load 0 of 1")
    assert done.endswith("scripted: load 1 of 1")


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ([(2, 2), (2, 900), (200, 900), (300, 900), (900, 900)], ["2 of 2", "300 of 900", "900 of 900"]),
        ([(2, 2), (900, 900)], ["2 of 2", "900 of 900"]),
        ([(0, 1), (1, 1), (1, 1), (0, 1), (1, 1)], ["0 of 1", "1 of 1", "0 of 1", "1 of 1"]),
    ],
    ids=["larger than it seemed", "larger and at its end", "once more"],
)
def test_logged_progress_of_a_stage(
    reported: list[tuple[int, int]], expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The hub's client can fetch a small file before it knows the others."""
    caplog.set_level(logging.INFO, "mlx_host.loading")
    show = LoadingDisplay().for_model("m")
    for done, total in reported:
        show(Loading("download", done, total))
    assert [record.getMessage() for record in caplog.records] == [f"m: download {amount}" for amount in expected]

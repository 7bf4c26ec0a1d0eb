"""The reason of a failed load, in the CLI and in responses: one line, without a traceback or a server's folder."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from mlx_host.errors import describe_error

from tests.support.client import get, post
from tests.support.command import mlx_host
from tests.support.server import running_server


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a/config.json"),
            "no such file: 'a/config.json'",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "permission denied: 'a'"),
        (FileNotFoundError("Config not found"), "Config not found"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (OSError(), "OSError"),
        (KeyError("model_type"), "KeyError: 'model_type'"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_exception_is_described_in_one_line(error: Exception, text: str) -> None:
    assert describe_error(error) == text


GOOD = '[[models]]\nbackend = "scripted"\nserved_model_name = "good"\n'


@pytest.mark.parametrize("backend", ["lm", "whisper"])
def test_an_incomplete_folder_is_one_sentence_without_its_path(tmp_path: Path, backend: str) -> None:
    folder = tmp_path / "incomplete"
    folder.mkdir()
    config = tmp_path / "mlx-host.toml"
    bad = f"[[models]]\nbackend = {json.dumps(backend)}\nmodel = {json.dumps(str(folder))}\n"
    config.write_text(GOOD + bad)
    with running_server("--config", str(config)) as server:
        server.wait_for_line("ready: good")
        body = {"model": "incomplete", "messages": [{"role": "user", "content": "hi"}]}
        response = post(server, body)
        assert response.status_code == 503
        health = get(server, "/health").json()
    for message in (response.json()["error"]["message"], health["errors"]["incomplete"]["message"]):
        assert "config.json" in message
        assert "Errno" not in message
        assert "FileNotFoundError" not in message
        assert str(tmp_path) not in message


def test_a_download_without_network_is_one_sentence(tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    args = ("--backend", "lm", "--model", "org/tiny", "--port", "0", "--no-log-file")
    done = mlx_host("run", *args, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    error = done.stderr.splitlines()[-1]
    assert " ERROR " in error
    assert "Check the network" in error

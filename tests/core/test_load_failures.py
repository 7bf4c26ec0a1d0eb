"""A model that fails to load: the server continues with the others; with none, or with --strict, it exits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.client import get, post
from tests.support.command import mlx_host
from tests.support.server import running_server

GOOD = '[[models]]\nbackend = "scripted"\nserved_model_name = "good"\n'
BAD = '[[models]]\nbackend = "scripted"\nserved_model_name = "bad"\nfail_load = true\n'
HELLO = [{"role": "user", "content": "hi"}]


def test_the_server_continues_with_the_other_models(tmp_path: Path) -> None:
    config = tmp_path / "mlx-host.toml"
    config.write_text(GOOD + BAD)
    with running_server("--config", str(config)) as server:
        assert "ready: good at " in server.wait_for_line("ready: ")
        assert post(server, {"model": "good", "messages": HELLO}).status_code == 200
        response = post(server, {"model": "bad", "messages": HELLO})
        assert response.status_code == 503
        assert "fail_load is set" in response.json()["error"]["message"]
        assert get(server, "/health").json()["models"] == {"good": "ready", "bad": "failed"}


@pytest.mark.parametrize(
    ("tables", "args"), [(GOOD + BAD, ["--strict"]), ("strict = true\n" + BAD + GOOD, []), (BAD, [])]
)
def test_the_server_exits_without_other_models_or_with_strict(tmp_path: Path, tables: str, args: list[str]) -> None:
    (tmp_path / "mlx-host.toml").write_text(tables)
    done = mlx_host("run", "--config", "mlx-host.toml", "--port", "0", *args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("model bad: failed: fail_load is set") == 1

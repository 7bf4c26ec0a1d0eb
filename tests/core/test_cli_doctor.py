"""`mlx-host doctor`: what it finds, its exit code, and what its report does not contain."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from mlx_host import __version__
from mlx_host._cli.doctor import machine
from mlx_host._cli.doctor.check import Check, Status, report_text

from tests.support.command import mlx_host
from tests.support.plugin_projects import install_plugins
from tests.support.server import ServerProcess, running_server

NO_HUB = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
BROKEN = "import a_library_that_is_not_there"


def report(
    *args: str, env: Mapping[str, str] | None = None, plugins: Sequence[Path] = ()
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run `mlx-host doctor --json`; return its exit code and the checks by name."""
    done = mlx_host("doctor", "--json", *args, env={**NO_HUB, **(env or {})}, plugins=plugins)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["mlx_host"] == __version__
    assert found["ok"] is (done.returncode == 0)
    return done.returncode, {check["name"]: check for check in found["checks"]}


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--backend", "scripted") as server:
        yield server


def test_a_screen_names_each_check_with_its_status() -> None:
    done = mlx_host("doctor", "--port", "0", env=NO_HUB)
    assert (done.returncode, done.stderr) == (0, "")
    names = re.findall(r"^(?:ok|warning) +(\S.*?)  ", done.stdout, re.MULTILINE)
    expected = ["Python", "mlx-host", "plugins", "backends", "MLX", "memory", "hub cache", "hub token", "port"]
    assert [name for name in names if name not in ("BLAS", "wired memory")] == expected
    assert len(done.stdout.splitlines()) <= 24
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_versions_of_mlx_and_of_the_plugins_are_reported() -> None:
    code, checks = report("--port", "0")
    assert code == 0
    assert checks["mlx-host"]["details"]["plugins"]["mlx-host-lm"] == __version__
    assert "lm" in checks["backends"]["details"]["backends"]
    assert checks["MLX"]["details"]["device"] == {"linux": "CPU", "darwin": "Metal"}[sys.platform]
    assert checks["memory"]["details"]["total_bytes"] > 0
    assert checks["hub cache"]["details"]["free_bytes"] > 0


def broken_mlx(folder: Path, source: str) -> dict[str, str]:
    """The environment of an installation whose mlx.core consists of this source."""
    (folder / "mlx").mkdir()
    (folder / "mlx" / "__init__.py").touch()
    (folder / "mlx" / "core.py").write_text(source)
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    ("source", "message", "remedy"),
    [
        ("raise ImportError('libcuda.so.1: cannot open shared object file')", "libcuda.so.1", "pip install"),
        ("import a_missing_library", "not installed", "pip install"),
        ("import os; os.abort()", "crashes: SIGABRT", "pip install"),
        ("import sys; sys.exit('no licence')", "crashes: exit code 1: no licence", "pip install"),
        ("def full(shape, value): raise RuntimeError('no device')", "cannot compute: no device", "pip install"),
    ],
)
def test_a_broken_mlx_is_an_error_with_the_remedy(tmp_path: Path, source: str, message: str, remedy: str) -> None:
    code, checks = report("--port", "0", env=broken_mlx(tmp_path, source))
    assert code == 1
    assert checks["MLX"]["status"] == "error"
    assert message in checks["MLX"]["message"]
    assert remedy in checks["MLX"]["remedy"]


@pytest.mark.skipif(sys.platform != "linux", reason="on macOS, MLX uses Apple's BLAS")
@pytest.mark.parametrize("preloaded", [False, True])
def test_openblas_is_found_if_it_is_preloaded(preloaded: bool) -> None:
    library = next(Path("/usr/lib").glob("*/openblas-*/libopenblas.so.0"), None)
    if preloaded and library is None:
        pytest.skip("OpenBLAS is not installed")
    _, checks = report("--port", "0", env={"LD_PRELOAD": str(library) if preloaded else ""})
    assert checks["BLAS"]["status"] == ("ok" if preloaded else "warning")
    assert (checks["BLAS"]["remedy"] is None) is preloaded


def test_a_broken_plugin_is_a_warning(tmp_path: Path) -> None:
    code, checks = report("--port", "0", plugins=[install_plugins(tmp_path, {"sick": BROKEN})])
    assert code == 0
    assert checks["broken plugin"]["status"] == "warning"
    assert "a_library_that_is_not_there" in checks["broken plugin"]["message"]
    assert "pip uninstall mlx-host-sick" in checks["broken plugin"]["remedy"]


def test_a_running_server_is_asked_for_its_models(server: ServerProcess) -> None:
    code, checks = report("--port", server.url.rpartition(":")[2])
    assert code == 0
    assert checks["server"]["status"] == "ok"
    assert checks["server"]["details"]["models"] == {"scripted": "ready"}


def test_a_failed_model_of_a_running_server_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "mlx-host.toml").write_text(
        '[[models]]\nbackend = "scripted"\nserved_model_name = "good"\n'
        '[[models]]\nbackend = "scripted"\nserved_model_name = "bad"\nfail_load = true\n'
    )
    with running_server("--config", str(tmp_path / "mlx-host.toml")) as server:
        server.wait_for_line("ready: good")
        code, checks = report("--port", server.url.rpartition(":")[2])
    assert code == 0
    assert checks["server"]["status"] == "warning"
    assert checks["server"]["details"]["models"] == {"good": "ready", "bad": "failed"}


def test_a_port_of_another_program_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        # Connections are accepted by the system, and never get a response; closing the socket would free the port.
        taken.listen(0)
        taken.settimeout(0)
        code, checks = report("--port", str(taken.getsockname()[1]))
    assert code == 1
    assert checks["port"]["status"] == "error"
    assert "--port" in checks["port"]["remedy"]


@pytest.mark.parametrize(
    ("toml", "env", "code", "message"),
    [
        ('[[models]]\nbackend = "scripted"\n', {}, 0, "models: scripted"),
        ('[[models]]\nbackend = "scirpted"\n', {}, 1, "Did you mean 'scripted'?"),
        ("port = 1\nport = 2\n", {}, 1, "cannot be read"),
        ('[[models]]\nbackend = "scripted"\n', {"MLX_HOST_LOG_LEVEL": "loud"}, 1, "MLX_HOST_LOG_LEVEL"),
    ],
)
def test_the_configuration_file_is_checked(
    tmp_path: Path, toml: str, env: dict[str, str], code: int, message: str
) -> None:
    config = tmp_path / "mlx-host.toml"
    config.write_text(f"port = {free_port()}\n{toml}" if code == 0 else toml)
    found, checks = report("--config", str(config), env=env)
    assert found == code
    assert message in checks["settings"]["message"]
    assert ("port" in checks) is (code == 0)


def test_a_misspelt_variable_is_a_warning() -> None:
    code, checks = report("--port", "0", env={"MLX_HOST_PROT": "1"})
    assert code == 0
    assert "MLX_HOST_PORT" in checks["settings"]["message"]


def test_the_report_has_no_home_directory_no_user_name_and_no_keys(tmp_path: Path) -> None:
    home = tmp_path / "home" / "zaphod"
    config = home / "mlx-host.toml"
    home.mkdir(parents=True)
    config.write_text('[[models]]\nbackend = "lm"\nmodel = "/srv/zaphod/hf_abcdefghijkl/sk-abcdefghijkl"\n')
    env = {
        "HOME": str(home),
        "USER": "zaphod",
        "LOGNAME": "zaphod",
        "HF_HOME": str(home / "hub"),
        "HF_TOKEN": "a-secret-token",
        "MLX_HOST_BENCH_API_KEY": "another-secret",
    }
    broken = install_plugins(tmp_path, {"sick": f"raise RuntimeError('{home}/x another-secret')"})
    for args in (("--json",), ()):
        done = mlx_host("doctor", "--config", str(config), *args, env={**NO_HUB, **env}, plugins=[broken])
        assert done.returncode == 1
        for private in ("zaphod", "secret", "hf_abc", "sk-abc"):
            assert private not in done.stdout
        assert "~/hub" in done.stdout
        assert "/srv/USER/" in done.stdout


@pytest.fixture
def sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write a `sysctl` that prints a value, or fails if the value is empty."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def write(value: str) -> None:
        script = tmp_path / "sysctl"
        script.write_text(f'#!/bin/sh\n[ "$2" = iogpu.wired_limit_mb ] && echo {value} && [ -n "{value}" ]\n')
        script.chmod(0o755)

    return write


@pytest.mark.parametrize(
    ("value", "message"), [("0", "default limit"), ("20480", "21.5 GB of 32.0 GB"), ("", "has no")]
)
def test_the_wired_limit_of_macos(sysctl: Callable[[str], None], value: str, message: str) -> None:
    sysctl(value)
    assert message in machine.check_wired_limit(32 * 10**9).message


def test_long_remedies_are_wrapped_and_commands_are_not_broken() -> None:
    command = "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0"
    check = Check("BLAS", Status.WARNING, "is slow " * 20, f"Preload it: mlx-host run --env {command}")
    text = click.unstyle(report_text([check]))
    assert max(map(len, text.splitlines())) <= 80
    assert any(line.endswith(command) for line in text.splitlines())

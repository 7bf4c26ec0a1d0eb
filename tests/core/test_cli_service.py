"""`mlx-host service`: the files that it writes, the commands that it runs, and its errors.

`systemctl` and `launchctl` are scripts that record their arguments: a test must not install a service.
"""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlx_host._cli import build, discover
from mlx_host._cli.service import command
from mlx_host._cli.service.launchd import Launchd
from mlx_host._cli.service.manager import ServiceSpec
from mlx_host._cli.service.systemd import Systemd

from tests.support.command import mlx_host, usage_error_of

SCRIPTED = 'shutdown_timeout = 5.5\n[[models]]\nbackend = "scripted"\n'
SYSTEMCTL = """\
#!/bin/sh
echo "$*" >> "$STUB/calls"
case "$*" in
*show-environment*) [ ! -e "$STUB/no-session" ] || { echo "Failed to connect to bus: No medium found" >&2; exit 1; } ;;
*restart*) [ ! -e "$STUB/fails" ] || { echo "Job for mlx-host.service failed." >&2; exit 1; } ;;
*" show "*) cat "$STUB/state" ;;
esac
"""
LAUNCHCTL = """\
#!/bin/sh
echo "$*" >> "$STUB/calls"
case "$1" in
print) case "$2" in
    gui/501) [ ! -e "$STUB/no-session" ] || exit 125 ;;
    *) [ -e "$STUB/loaded" ] || exit 113; cat "$STUB/loaded" ;;
    esac ;;
bootstrap) printf '\\tstate = running\\n\\tpid = 12\\n' > "$STUB/loaded" ;;
bootout) rm "$STUB/loaded" ;;
esac
"""


@dataclass
class Machine:
    """A home directory, and the stub of a service manager."""

    stub: Path
    home: Path
    env: dict[str, str]

    def calls(self) -> list[str]:
        log = self.stub / "calls"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    home, stub = tmp_path / "home dir", tmp_path / "stub"
    for folder in (home, stub):
        folder.mkdir()
    for name, script in (("systemctl", SYSTEMCTL), ("launchctl", LAUNCHCTL)):
        (stub / name).write_text(script)
        (stub / name).chmod(0o755)
    (home / "mlx-host.toml").write_text(SCRIPTED)
    path = f"{stub}{os.pathsep}{os.environ['PATH']}"
    return Machine(stub, home, {"PATH": path, "STUB": str(stub), "HOME": str(home), "XDG_CONFIG_HOME": str(home / "x")})


linux = pytest.mark.skipif(sys.platform != "linux", reason="systemd is the service manager of Linux")


@linux
def test_install_status_and_uninstall_with_systemd(machine: Machine) -> None:
    unit = machine.home / "x" / "systemd" / "user" / "mlx-host.service"
    install = ("service", "install", "--config", "mlx-host.toml", "--yes")
    done = mlx_host(*install, env=machine.env, cwd=machine.home)
    assert (done.returncode, done.stderr) == (0, "")
    text = unit.read_text()
    assert text in done.stdout
    assert f'ExecStart={sys.executable} -m mlx_host run --config "{machine.home}/mlx-host.toml"\n' in text
    assert f"WorkingDirectory={machine.home}\n" in text
    assert "Restart=on-failure\n" in text
    assert "TimeoutStopSec=16\n" in text
    show, *calls = machine.calls()
    assert show == "--user show-environment"
    assert calls == ["--user daemon-reload", "--user enable mlx-host.service", "--user restart mlx-host.service"]
    for call in calls:
        assert f"systemctl {call}\n" in done.stdout

    (machine.stub / "state").write_text("ActiveState=active\nSubState=running\nMainPID=42\nResult=success\n")
    done = mlx_host("service", "status", env=machine.env)
    assert done.returncode == 0
    assert "running, pid 42" in done.stdout
    (machine.stub / "state").write_text("ActiveState=activating\nSubState=auto-restart\nMainPID=0\nResult=exit-code\n")
    done = mlx_host("service", "status", env=machine.env)
    assert done.returncode == 1
    assert "activating (auto-restart): exit-code" in done.stdout

    done = mlx_host("service", "uninstall", "--yes", env=machine.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert not unit.exists()
    assert machine.calls()[-1] == "--user disable --now mlx-host.service"
    assert mlx_host("service", "status", env=machine.env).returncode == 1
    assert mlx_host("service", "uninstall", "--yes", env=machine.env).returncode == 0


@linux
def test_without_confirmation_nothing_is_written(machine: Machine) -> None:
    done = mlx_host("service", "install", "--config", "mlx-host.toml", env=machine.env, cwd=machine.home)
    assert done.returncode == 1
    assert "ExecStart=" in done.stdout
    assert "Install and start the service?" in done.stdout
    assert machine.calls() == ["--user show-environment"]
    assert not (machine.home / "x").exists()


@linux
def test_a_command_of_the_service_manager_that_fails_is_a_one_line_error(machine: Machine) -> None:
    install = ("service", "install", "--config", "mlx-host.toml", "--yes")
    (machine.stub / "fails").touch()
    done = mlx_host(*install, env=machine.env, cwd=machine.home)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "`systemctl --user restart mlx-host.service`" in done.stderr
    assert "Job for mlx-host.service failed" in done.stderr
    (machine.stub / "no-session").touch()
    done = mlx_host(*install, env=machine.env, cwd=machine.home)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "loginctl enable-linger" in done.stderr
    done = mlx_host(*install, env={**machine.env, "PATH": str(machine.home)}, cwd=machine.home)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "systemctl" in done.stderr


@linux
def test_variables_of_the_shell_are_not_part_of_the_service(machine: Machine) -> None:
    env = {**machine.env, "MLX_HOST_PORT": "9", "MLX_HOST_LOG_LEVEL": "loud"}
    done = mlx_host("service", "install", "--config", "mlx-host.toml", "--yes", env=env, cwd=machine.home)
    assert done.returncode == 0
    assert "MLX_HOST_LOG_LEVEL, MLX_HOST_PORT" in done.stdout


@linux
@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (None, "no such file"),
        ("port = ", "cannot be read"),
        ('[[models]]\nbackend = "scirpted"\n', "Did you mean 'scripted'?"),
        ('[[models]]\nbackend = "lm"\nmodel = "./nowhere"\n', "no such folder"),
        ("port = 8000\n", "--backend is required"),
    ],
)
def test_an_invalid_configuration_file_is_not_installed(machine: Machine, toml: str | None, message: str) -> None:
    config = machine.home / "mlx-host.toml"
    config.unlink() if toml is None else config.write_text(toml)
    env = {**machine.env, "MLX_HOST_BACKEND": "scripted"}
    assert message in usage_error_of(mlx_host("service", "install", "--config", str(config), "--yes", env=env))
    assert machine.calls() == []


def test_the_configuration_file_is_required(machine: Machine) -> None:
    done = mlx_host("service", "install", "--yes", env=machine.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'--config'" in done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize(
    ("environment", "name"),
    [("plain", "plain"), ("with space, %h and $HOME", "with space, \"quote\", 'quote', %h, $HOME and \\backslash")],
)
def test_systemd_accepts_the_unit(tmp_path: Path, environment: str, name: str) -> None:
    """systemd allows no quotes and backslashes in the path of the executable."""
    folder = tmp_path / name
    folder.mkdir()
    python = tmp_path / environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    spec = ServiceSpec((str(python), "-m", "mlx_host", "run", "--config", str(folder / "x.toml")), folder, 40)
    unit = tmp_path / "mlx-host.service"
    unit.write_text(Systemd(tmp_path).file(spec))
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    verify = ["systemd-analyze", "--user", "--man=no", "verify", str(unit)]
    done = subprocess.run(verify, capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, "")


Invoke = Callable[..., Result]


@pytest.fixture
def mac(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run `mlx-host service ARGS` as on macOS."""
    monkeypatch.setattr(command, "service_manager", lambda: Launchd(machine.home, uid=501))
    monkeypatch.setenv("PATH", machine.env["PATH"])
    monkeypatch.setenv("STUB", machine.env["STUB"])

    def invoke(*args: str) -> Result:
        return CliRunner().invoke(build(discover()), ["service", *args], prog_name="mlx-host")

    return invoke


def test_install_status_and_uninstall_with_launchd(mac: Invoke, machine: Machine) -> None:
    config = machine.home / "mlx-host.toml"
    agent = machine.home / "Library" / "LaunchAgents" / "org.mlx-host.plist"
    service, bootstrap = "gui/501/org.mlx-host", f"bootstrap gui/501 {agent}"
    result = mac("install", "--config", str(config), "--yes")
    assert result.exit_code == 0, result.output
    assert f"launchctl {bootstrap}\n" in result.stdout
    assert machine.calls() == ["print gui/501", f"print {service}", bootstrap]
    plist = plistlib.loads(agent.read_bytes())
    log = Path(plist.pop("StandardErrorPath"))
    assert log.parent.is_dir()
    assert plist == {
        "Label": "org.mlx-host",
        "ProgramArguments": [sys.executable, "-m", "mlx_host", "run", "--config", str(config)],
        "WorkingDirectory": str(machine.home),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 30,
        "ExitTimeOut": 16,
        "ProcessType": "Interactive",
    }
    result = mac("status")
    assert result.exit_code == 0
    assert "running, pid 12" in result.stdout

    # A loaded service is stopped before it is loaded again.
    result = mac("install", "--config", str(config), "--yes")
    assert result.exit_code == 0
    assert f"replaces {agent}" in result.stdout
    assert [call for call in machine.calls() if not call.startswith("print")][-2:] == [f"bootout {service}", bootstrap]

    (machine.stub / "loaded").write_text("\tstate = spawn scheduled\n\tlast exit code = 1\n")
    result = mac("status")
    assert result.exit_code == 1
    assert "spawn scheduled, last exit code 1" in result.stdout

    result = mac("uninstall", "--yes")
    assert result.exit_code == 0
    assert not agent.exists()
    assert not (machine.stub / "loaded").exists()


def test_launchd_without_a_desktop_session_is_an_error(mac: Invoke, machine: Machine) -> None:
    (machine.stub / "no-session").touch()
    result = mac("install", "--config", str(machine.home / "mlx-host.toml"), "--yes")
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1
    assert "gui/501" in result.output
    assert not (machine.home / "Library").exists()


@pytest.mark.parametrize("name", ["plain", "with space, <tag>, & and 'quote'"])
def test_a_plist_has_the_paths_unchanged(tmp_path: Path, name: str) -> None:
    spec = ServiceSpec(("python", "--config", f"/{name}/x.toml"), tmp_path / name, 40)
    plist = plistlib.loads(Launchd(tmp_path, uid=501).file(spec).encode())
    assert plist["ProgramArguments"] == ["python", "--config", f"/{name}/x.toml"]
    assert plist["WorkingDirectory"] == str(tmp_path / name)

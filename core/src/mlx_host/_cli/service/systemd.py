"""systemd: a unit of the user's own service manager."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mlx_host._cli.service.manager import (
    RESTART_DELAY,
    ServiceError,
    ServiceManager,
    ServiceSpec,
    ServiceState,
    require_success,
    run_command,
)

UNIT = "mlx-host.service"
_PLAIN = re.compile(r"[\w./:=@+,-]+", re.ASCII)
_SYSTEMCTL = ("systemctl", "--user")

# KillMode: SIGTERM goes to the server only, which shuts its models' processes down.
TEMPLATE = """\
[Unit]
Description=mlx-host, an inference server for MLX models

[Service]
Type=exec
ExecStart={command}
WorkingDirectory={folder}
Restart=on-failure
RestartSec={delay}
TimeoutStopSec={stop_timeout}
KillMode=mixed

[Install]
WantedBy=default.target
"""


class Systemd(ServiceManager):
    """A user unit in `config_home`, which is $XDG_CONFIG_HOME or ~/.config."""

    log = f"journalctl --user --unit {UNIT} --follow"
    remark = (
        "The service stops when you log out. To keep it running and start it at boot, run `loginctl enable-linger`."
    )

    def __init__(self, config_home: Path | None = None) -> None:
        if config_home is None:
            config_home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self.path = config_home / "systemd" / "user" / UNIT

    def check_available(self) -> None:
        done = run_command([*_SYSTEMCTL, "show-environment"])
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ServiceError(
                f"The user's service manager of systemd does not respond: {reason[0].rstrip('.')}. "
                "Log in as this user (not with su or sudo), or run `loginctl enable-linger`."
            )

    def file(self, spec: ServiceSpec) -> str:
        first, *rest = spec.command
        return TEMPLATE.format(
            command=" ".join([_quote(first), *(_quote(argument.replace("$", "$$")) for argument in rest)]),
            folder=str(spec.folder).replace("%", "%%"),
            delay=RESTART_DELAY,
            stop_timeout=spec.stop_timeout,
        )

    def start_commands(self) -> list[list[str]]:
        return [[*_SYSTEMCTL, *arguments] for arguments in (["daemon-reload"], ["enable", UNIT], ["restart", UNIT])]

    def start(self) -> None:
        for command in self.start_commands():
            require_success(command)

    def stop(self) -> None:
        require_success([*_SYSTEMCTL, "disable", "--now", UNIT])

    def state(self) -> ServiceState:
        properties = ("ActiveState", "SubState", "MainPID", "Result")
        output = require_success([*_SYSTEMCTL, "show", UNIT, f"--property={','.join(properties)}"])
        values = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        active, sub = values.get("ActiveState", "unknown"), values.get("SubState", "unknown")
        if active == "active":
            return ServiceState(True, f"{sub}, pid {values.get('MainPID')}")
        result = values.get("Result", "success")
        return ServiceState(False, f"{active} ({sub})" if result == "success" else f"{active} ({sub}): {result}")


def _quote(argument: str) -> str:
    """Quote an argument of ExecStart, where `%` starts a specifier."""
    if _PLAIN.fullmatch(argument):
        return argument
    escaped: Sequence[tuple[str, str]] = (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"))
    for character, replacement in escaped:
        argument = argument.replace(character, replacement)
    return f'"{argument}"'

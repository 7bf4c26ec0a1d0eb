"""launchd: an agent of the logged-in user."""

from __future__ import annotations

import os
import plistlib
import re
import time
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

LABEL = "org.mlx-host"
# Seconds between two checks whether the stopped service has ended.
_POLL_INTERVAL = 0.2
# Longer than the service may take to stop.
_STOP_TIMEOUT = 600.0


class Launchd(ServiceManager):
    """An agent in the home directory's Library."""

    def __init__(self, home: Path | None = None, uid: int | None = None) -> None:
        home = Path.home() if home is None else home
        self._domain = f"gui/{os.getuid() if uid is None else uid}"
        self._service = f"{self._domain}/{LABEL}"
        self._log_file = home / "Library" / "Logs" / "mlx-host" / "mlx-host.log"
        self.path = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self.log = str(self._log_file)

    def check_available(self) -> None:
        done = run_command(["launchctl", "print", self._domain])
        if done.returncode != 0:
            raise ServiceError(
                f"launchd has no desktop session for this user ({self._domain}). Log in to the Mac's desktop first."
            )

    def file(self, spec: ServiceSpec) -> str:
        description = {
            "Label": LABEL,
            "ProgramArguments": list(spec.command),
            "WorkingDirectory": str(spec.folder),
            "RunAtLoad": True,
            # Restarted if it fails, not if it was stopped.
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": RESTART_DELAY,
            "ExitTimeOut": spec.stop_timeout,
            # By default, background processes get less CPU time.
            "ProcessType": "Interactive",
            "StandardErrorPath": str(self._log_file),
        }
        return plistlib.dumps(description, sort_keys=False).decode()

    def start_commands(self) -> list[list[str]]:
        return [["launchctl", "bootstrap", self._domain, str(self.path)]]

    def start(self) -> None:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        if self._is_loaded():
            self.stop()
        for command in self.start_commands():
            require_success(command)

    def stop(self) -> None:
        if not self._is_loaded():
            return
        require_success(["launchctl", "bootout", self._service])
        # bootout returns before the process has ended; bootstrap would fail until then.
        deadline = time.monotonic() + _STOP_TIMEOUT
        while self._is_loaded():
            if time.monotonic() > deadline:
                raise ServiceError(f"The service did not stop within {_STOP_TIMEOUT:g} seconds.")
            time.sleep(_POLL_INTERVAL)

    def state(self) -> ServiceState:
        done = run_command(["launchctl", "print", self._service])
        if done.returncode != 0:
            return ServiceState(False, "not loaded")
        state, pid, code = (
            found[1] if (found := re.search(rf"^\s*{key} = (.+)$", done.stdout, re.MULTILINE)) else None
            for key in ("state", "pid", "last exit code")
        )
        if state == "running":
            return ServiceState(True, f"running, pid {pid}")
        return ServiceState(False, f"{state}, last exit code {code}" if code else str(state))

    def _is_loaded(self) -> bool:
        return run_command(["launchctl", "print", self._service]).returncode == 0

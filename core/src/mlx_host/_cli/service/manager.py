"""The interface of a service manager, such as launchd."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_host.errors import MlxHostError

# Seconds after a failure before the server is started again.
RESTART_DELAY = 30


class ServiceError(MlxHostError):
    """The service manager is not available, or one of its commands failed."""


@dataclass(frozen=True)
class ServiceSpec:
    """What the service runs: the command, its working directory, and the seconds that it may take to stop."""

    command: Sequence[str]
    folder: Path
    stop_timeout: int


@dataclass(frozen=True)
class ServiceState:
    """Whether the server's process runs, and a description such as "running, pid 12"."""

    running: bool
    description: str


class ServiceManager(ABC):
    """Installs one service for the current user. `path` is its file, `log` says where the server's log is."""

    path: Path
    log: str
    # A remark for the user after the installation.
    remark = ""

    @abstractmethod
    def check_available(self) -> None:
        """Raise ServiceError if the service manager does not respond."""

    @abstractmethod
    def file(self, spec: ServiceSpec) -> str:
        """Return the content of the service's file."""

    @abstractmethod
    def start_commands(self) -> list[list[str]]:
        """Return the commands that start the service after its file has been written."""

    @abstractmethod
    def start(self) -> None:
        """Start the service, or restart it with a changed file. Raises ServiceError."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the service and forget it; its file is removed afterwards. Raises ServiceError."""

    @abstractmethod
    def state(self) -> ServiceState:
        """Return the state of an installed service. Raises ServiceError."""


def run_command(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the service manager; ServiceError if it does not exist."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ServiceError(f"{command[0]} cannot be run: {error.strerror}.") from error


def require_success(command: Sequence[str]) -> str:
    """Run a command and return its output; ServiceError if it fails."""
    done = run_command(command)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise ServiceError(f"`{' '.join(command)}` failed: {lines[0].rstrip('.')}.")
    return done.stdout

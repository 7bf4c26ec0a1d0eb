"""Virtual environments as users create them: `python -m venv` and pip, without uv and without the workspace's pins."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_host import __version__

from tests.support.command import clean_environment, mlx_host


@dataclass
class Environment:
    """A virtual environment; `seconds` is the time that creating it and installing packages took."""

    folder: Path
    dists: Path
    seconds: float = field(default=0.0, init=False)

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `pip install` with our distributions in addition to the index; those of this project get its version."""
        words = [
            f"{word}=={__version__}" if word.startswith("mlx-host") and "==" not in word else word for word in arguments
        ]
        started = time.monotonic()
        # The server compiles what it imports; compiling everything takes most of the time.
        options = ["--no-compile", "--find-links", str(self.dists)]
        command = [self.python, "-m", "pip", "install", *options, *words]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
        self.seconds += time.monotonic() - started
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def mlx_host(self, *args: str) -> subprocess.CompletedProcess[str]:
        return mlx_host(*args, python=self.python)

    def plugins(self) -> dict[str, dict[str, Any]]:
        """The installed plugins by name, without core's; none may be skipped or in conflict."""
        done = self.mlx_host("plugins", "--json")
        assert done.returncode == 0, done.stderr
        listed = json.loads(done.stdout)
        assert (listed["skipped"], listed["conflicts"]) == ([], [])
        return {row["name"]: row for row in listed["plugins"] if row["distribution"] != "mlx-host"}

    def summary(self) -> str:
        size = sum(path.lstat().st_size for path in self.folder.rglob("*"))
        return f"{self.seconds:.0f} s, {size / 1e6:.0f} MB"


@contextmanager
def new_environment(folder: Path, dists: Path, python: str = sys.executable) -> Iterator[Environment]:
    """Create a virtual environment, and remove it afterwards: some take gigabytes."""
    found = Environment(folder, dists)
    started = time.monotonic()
    subprocess.run([python, "-m", "venv", str(folder)], env=clean_environment(), check=True, capture_output=True)
    found.seconds = time.monotonic() - started
    try:
        yield found
    finally:
        shutil.rmtree(folder)

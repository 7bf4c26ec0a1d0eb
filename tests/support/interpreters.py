"""Finds the Python interpreters of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def find_interpreter(version: str) -> str | None:
    """Return the path of an interpreter of a version such as "3.12", from the PATH, pyenv or uv; None without one."""
    for path in _candidates(version):
        # A shim of pyenv exists for versions that are not selected, and does not run.
        command = [path, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2], sys.executable)"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found, _, executable = done.stdout.strip().partition(" ")
        if done.returncode == 0 and found == version:
            return executable
    return None


def _candidates(version: str) -> Iterator[str]:
    if on_path := shutil.which(f"python{version}"):
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python3")))
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        command = [uv, "python", "find", "--no-project", "--no-python-downloads", version]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            yield done.stdout.strip()

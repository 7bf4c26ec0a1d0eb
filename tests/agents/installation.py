"""Installs the coding agents with npm into a cache folder, once for each version of package.json."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parent / "package.json"
# Files of other systems, and packages that the agents do not need here.
UNUSED = ("opencode-linux-x64-baseline", "opencode-linux-x64-musl", "opencode-linux-x64-baseline-musl")


def installed_agents() -> Path:
    """Return the folder with the agents' commands and a recent node; without npm, skip the test, but fail in CI."""
    npm = shutil.which("npm")
    if npm is None:
        message = "the tests of coding agents need npm"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlx-host-tests"
    folder = cache / f"agents-{hashlib.sha256(PACKAGES.read_bytes()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "agents.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            for old in cache.glob("agents-*"):
                shutil.rmtree(old)
            _install(npm, folder)
    return folder / "node_modules" / ".bin"


def _install(npm: str, folder: Path) -> None:
    folder.mkdir()
    shutil.copy(PACKAGES, folder)
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts=false"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in UNUSED:
        shutil.rmtree(folder / "node_modules" / name, ignore_errors=True)
    (folder / "complete").touch()

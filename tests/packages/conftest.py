"""The distributions of all packages, built once per test session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.docs.blocks import ROOT
from tests.support.command import clean_environment
from tests.support.plugin_projects import uv


def build(folder: Path, *arguments: str) -> Path:
    """Build packages of the workspace into a folder, with the build backend of the test environment."""
    command = [uv(), "build", "--quiet", "--no-build-isolation", "--python", sys.executable, "-o", str(folder)]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def dists(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with the source distribution and the wheel of each package; the wheels are built from the former."""
    root = tmp_path_factory.getbasetemp()
    shared = root if worker_id == "master" else root.parent
    folder, finished = shared / "dists", shared / "dists-finished"
    # The test processes share it.
    with FileLock(shared / "dists.lock"):
        if not finished.exists():
            build(folder, "--all-packages")
            finished.touch()
    return folder

"""Creates small plugin projects and installs them as distributions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "mlx-host-{name}"
version = "{version}"
dependencies = {dependencies}

[project.entry-points.mlx_host]
{name} = "{module}"

[tool.hatch.build.targets.wheel]
include = ["{module}.py"]
"""


def uv() -> str:
    """The path of the uv that runs these tests, or of the one on the PATH."""
    found = os.environ.get("UV") or shutil.which("uv")
    assert found, "these tests install plugins with uv, which is not on the PATH"
    return found


def write_project(folder: Path, name: str, source: str, version: str = "1.0", dependencies: Sequence[str] = ()) -> Path:
    """Write a project of one module, the distribution mlx-host-NAME with the entry point NAME."""
    module = f"mlx_host_{name.replace('-', '_')}"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        PYPROJECT.format(name=name, module=module, version=version, dependencies=json.dumps(dependencies))
    )
    (folder / f"{module}.py").write_text(source)
    return folder


def install_plugins(folder: Path, sources: Mapping[str, str]) -> Path:
    """Build and install a distribution for each source; return the folder for PYTHONPATH."""
    return install_projects(
        folder, [write_project(folder / "projects" / name, name, source) for name, source in sources.items()]
    )


def install_projects(folder: Path, projects: Sequence[Path]) -> Path:
    """Build and install the distributions of these folders; return the folder for PYTHONPATH."""
    target = folder / "installed"
    offline = ["--offline", "--no-index", "--no-deps", "--no-build-isolation", "--python", sys.executable]
    command = [uv(), "pip", "install", "--quiet", *offline, "--target", str(target), *map(str, projects)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target

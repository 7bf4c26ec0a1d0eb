"""The examples import public names only: the contract in pyproject.toml covers all private modules and all examples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import mlx_host
import pytest

from tests.support.command import import_path

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACT = next(each for each in CONFIG["contracts"] if each["name"] == "Plugins import public modules only")


def lint(folder: Path, package: str) -> subprocess.CompletedProcess[str]:
    """Check the contract for one package of a folder."""
    contract = {**CONTRACT, "source_modules": [package]}
    lines = ["[tool.importlinter]", f'root_packages = ["mlx_host", "{package}"]', "[[tool.importlinter.contracts]]"]
    config = folder / "importlinter.toml"
    # JSON strings, lists and booleans are valid TOML.
    config.write_text("\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in contract.items())]))
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", str(config)]
    env = {**os.environ, **import_path([folder])}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_every_private_module_is_forbidden() -> None:
    folder = Path(mlx_host.__path__[0])
    private = {f"mlx_host.{path.stem}" for path in folder.glob("_*") if not path.name.startswith("__")}
    assert private <= set(CONTRACT["forbidden_modules"])


@pytest.mark.parametrize("package", sorted(path.parent for path in ROOT.glob("examples/*/*/__init__.py")))
def test_an_example_imports_public_names_only(package: Path, tmp_path: Path) -> None:
    (tmp_path / package.name).symlink_to(package)
    done = lint(tmp_path, package.name)
    assert done.returncode == 0, done.stdout


def test_a_private_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "mlx_host_nosy").mkdir()
    (tmp_path / "mlx_host_nosy" / "__init__.py").write_text("from mlx_host._host import Host\n")
    done = lint(tmp_path, "mlx_host_nosy")
    assert done.returncode == 1
    assert "mlx_host_nosy -> mlx_host._host" in done.stdout

"""The contracts of import-linter in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_dependencies_point_down() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert ", 0 broken." in done.stdout


def test_contracts_on_public_modules_name_every_private_module() -> None:
    private = {f"mlx_host.{path.stem}" for path in (ROOT / "core/src/mlx_host").glob("_*") if "__" not in path.name}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = [
        contract
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["name"].endswith("import public modules only")
    ]
    assert contracts
    for contract in contracts:
        assert set(contract["forbidden_modules"]) == private

"""Checks of all parser packages: shared metadata and complete lists."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FAMILIES = sorted(path.parent.name for path in (ROOT / "plugins" / "parsers").glob("*/pyproject.toml"))
FAMILIES.remove("all")
CORE = ROOT / "core" / "src" / "mlx_host"


@cache
def project(*path: str) -> dict[str, Any]:
    """Return the contents of a project's pyproject.toml."""
    return tomllib.loads(ROOT.joinpath(*path, "pyproject.toml").read_text(encoding="utf-8"))


def parser(family: str) -> dict[str, Any]:
    return project("plugins", "parsers", family)


def test_meta_package_pins_every_family() -> None:
    meta = parser("all")["project"]
    families = [parser(family)["project"] for family in FAMILIES]
    assert sorted(meta["dependencies"]) == sorted(f"{each['name']}=={meta['version']}" for each in families)
    assert {each["version"] for each in families} == {meta["version"]}


@pytest.mark.parametrize("family", FAMILIES)
def test_packages_declare_what_hatchling_and_mlx_host_need(family: str) -> None:
    """tests/packages compares the rest of their metadata with that of all packages."""
    found = parser(family)
    name = f"mlx-host-parser-{family.replace('_', '-')}"
    assert found.keys() == {"build-system", "project"}, "hatchling finds the package by the project's name"
    assert found["project"]["name"] == name
    assert found["project"]["description"].startswith("mlx-host parser for ")
    assert found["project"]["entry-points"] == {"mlx_host": {family: name.replace("-", "_")}}
    version = found["project"]["version"]
    assert found["project"]["dependencies"][0] == f"mlx-host=={version}"
    families = {f"{parser(other)['project']['name']}=={version}" for other in FAMILIES}
    assert set(found["project"]["dependencies"][1:]) <= families


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_a_typed_package_with_samples(family: str) -> None:
    folder = ROOT / "plugins" / "parsers" / family / f"mlx_host_parser_{family}"
    assert {"__init__.py", "samples.py", "py.typed"} <= {path.name for path in folder.iterdir()}


def test_parsers_load_without_test_dependencies() -> None:
    """Samples need the extra `mlx-host[testing]`, which servers do not have."""
    code = "import sys; from mlx_host._cli import discover; print(len(discover().parsers.found), *sys.modules)"
    found, *imported = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(found) >= len(FAMILIES)
    assert {f"mlx_host_parser_{family}" for family in FAMILIES} <= set(imported)
    assert not {name for name in imported if name.startswith(("mlx_host.testing", "hypothesis"))}


def test_every_family_is_a_member_of_the_workspace() -> None:
    uv = project()["tool"]["uv"]
    assert {f"plugins/parsers/{family}" for family in (*FAMILIES, "all")} <= set(uv["workspace"]["members"])
    assert {parser(family)["project"]["name"] for family in (*FAMILIES, "all")} <= uv["sources"].keys()


def test_imports_of_every_family_are_checked() -> None:
    linter = project()["tool"]["importlinter"]
    modules = [f"mlx_host_parser_{family}" for family in FAMILIES]
    assert set(linter["root_packages"]) >= {"mlx_host", *modules}
    [contract] = [each for each in linter["contracts"] if each["name"] == "Plugins import public modules only"]
    assert set(contract["source_modules"]) >= set(modules)

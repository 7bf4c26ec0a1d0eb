"""The metadata of all packages agrees, and their distributions are complete and reproducible."""

from __future__ import annotations

import email
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections import Counter
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from mlx_host._plugins.contract import contract_range
from packaging.requirements import Requirement

from scripts.set_version import pages, projects, set_urls, set_version
from tests.docs.blocks import ROOT
from tests.packages.conftest import build

FILES = {str(path.parent.relative_to(ROOT)): path for path in projects(ROOT)[1:]}
# They are never published.
PRIVATE = {"examples/third-party-api", "examples/third-party-backend", "tests/support/scripted"}
# It consists of its dependencies.
EMPTY = {"plugins/parsers/all"}


def project(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return found


WORKSPACE = project(ROOT / "pyproject.toml")
VERSION = WORKSPACE["project"]["version"]
CORE = project(FILES["core"])


def check_requirements(path: Path, version: str) -> None:
    """Check the version of a package, and those with which it depends on the others."""
    found = project(path)["project"]
    assert found["version"] == version
    optional = [each for extra in found.get("optional-dependencies", {}).values() for each in extra]
    own = [Requirement(each) for each in (*found.get("dependencies", ()), *optional) if each.startswith("mlx-host")]
    for requirement in own:
        if requirement.name == "mlx-host" and "examples" in path.parts:
            assert f"mlx-host{requirement.specifier}" == str(Requirement(f"mlx-host{contract_range(version)}"))
        elif found["name"] not in ("mlx-host-workspace", requirement.name):
            assert str(requirement.specifier) == f"=={version}", requirement


@pytest.mark.parametrize("member", FILES)
def test_packages_agree(member: str) -> None:
    found, core = project(FILES[member]), CORE["project"]
    assert found["build-system"] == CORE["build-system"]
    shared = ("requires-python", "license", "license-files", "authors")
    assert {key: found["project"][key] for key in shared} == {key: core[key] for key in shared}
    own = {"Environment :: Console", "Framework :: FastAPI"} if member == "core" else set()
    private = {"Private :: Do Not Upload"} if member in PRIVATE else set()
    common = set(core["classifiers"]) - {"Environment :: Console", "Framework :: FastAPI"}
    assert set(found["project"]["classifiers"]) == common | own | private
    assert re.fullmatch(r"\S[^\n]{15,120}[^\n.]", found["project"]["description"])
    assert found["project"].get("urls") == core.get("urls")
    assert (FILES[member].parent / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (FILES[member].parent / "README.md").exists() or member in PRIVATE
    check_requirements(FILES[member], VERSION)


def test_one_command_sets_the_version(tmp_path: Path) -> None:
    shutil.copy(ROOT / "README.md", tmp_path)
    for path in (*projects(ROOT), *pages(ROOT)):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    set_version(tmp_path, "3.4.5")
    for path in projects(tmp_path):
        check_requirements(path, "3.4.5")
        assert not re.search(rf'"mlx-host[^"]*{re.escape(VERSION)}', path.read_text(encoding="utf-8"))
    assert len(pages(tmp_path)) == len(pages(ROOT)) > 0
    for page in pages(tmp_path):
        assert 'dependencies = ["mlx-host>=3.4,<4"]' in page.read_text(encoding="utf-8")
    set_version(tmp_path, VERSION)
    for path in (*projects(ROOT), *pages(ROOT)):
        assert (tmp_path / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


def test_the_command_sets_the_project_urls(tmp_path: Path) -> None:
    for path in projects(ROOT):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    for repository in ("https://example.org/other/", "https://example.org/mlx-host"):
        set_urls(tmp_path, repository)
    for path in FILES.values():
        found, before = project(tmp_path / path.relative_to(ROOT)), project(path)
        assert found["project"].pop("urls") == {
            "Homepage": "https://example.org/mlx-host",
            "Issues": "https://example.org/mlx-host/issues",
            "Changelog": "https://example.org/mlx-host/blob/main/CHANGELOG.md",
        }
        before["project"].pop("urls", None)
        assert found == before


@pytest.mark.parametrize("arguments", [["next"], ["1.0.0", "--repository", "example.org"]], ids=" ".join)
def test_invalid_arguments_are_rejected(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "scripts.set_version", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert repr(arguments[-1]) in done.stderr
    assert "Traceback" not in done.stderr


def wheel_metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def test_every_package_has_a_wheel_and_a_source_distribution(dists: Path) -> None:
    names = {project(path)["project"]["name"].replace("-", "_") for path in FILES.values()}
    assert {file.name.partition("-")[0] for file in dists.glob("*.whl")} == names
    assert {file.name.rpartition("-")[0] for file in dists.glob("*.tar.gz")} == names


def test_each_wheel_contains_only_the_modules_of_its_package(dists: Path) -> None:
    installed_modules: Counter[str] = Counter()
    for file in dists.glob("*.whl"):
        names = zipfile.ZipFile(file).namelist()
        modules = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        assert modules or file.name.startswith("mlx_host_parsers-"), f"{file.name} is empty"
        assert all(module.startswith("mlx_host") for module in modules), f"{file.name} contains {modules}"
        assert not [name for name in names if "test_" in name or "__pycache__" in name]
        installed_modules.update(modules)
    assert set(installed_modules.values()) == {1}


@pytest.mark.parametrize("member", FILES)
def test_distributions_have_type_information_licence_and_readme(dists: Path, member: str) -> None:
    name = project(FILES[member])["project"]["name"].replace("-", "_")
    (wheel,) = dists.glob(f"{name}-*.whl")
    (sdist,) = dists.glob(f"{name}-*.tar.gz")
    files = zipfile.ZipFile(wheel).namelist()
    assert any(file.endswith("/py.typed") for file in files) or member in EMPTY | {"tests/support/scripted"}
    assert any(file.endswith(".dist-info/licenses/LICENSE") for file in files)
    with tarfile.open(sdist) as archive:
        members = {info.name.partition("/")[2]: info for info in archive.getmembers()}
    assert members["LICENSE"].isfile()
    metadata = wheel_metadata(wheel)
    assert metadata["License-Expression"] == "MIT"
    if member not in PRIVATE:
        assert metadata["Description-Content-Type"] == "text/markdown"
        assert f"# {metadata['Name']}" in str(metadata.get_payload())


def test_distributions_pass_twine(dists: Path) -> None:
    published = [
        file
        for file in dists.iterdir()
        if file.name.endswith((".whl", ".tar.gz"))
        and not file.name.startswith(("mlx_host_echo", "mlx_host_toy_speech", "mlx_host_scripted"))
    ]
    command = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", *map(str, published)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == len(published)


def test_builds_are_reproducible(dists: Path, tmp_path: Path) -> None:
    """The core is built again, and a parser, which is packaged in the other way."""
    for package in ("mlx-host", "mlx-host-parser-qwen3"):
        build(tmp_path, "--package", package)
    built = [file for file in tmp_path.iterdir() if file.name.endswith((".whl", ".tar.gz"))]
    assert len(built) == 4
    for file in built:
        assert digest(file) == digest(dists / file.name), file.name


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

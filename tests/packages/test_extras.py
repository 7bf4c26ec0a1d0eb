"""The extras of mlx-host install what they name, with any resolver and without the workspace's pins."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.support.command import clean_environment
from tests.support.plugin_projects import uv

BACKENDS = {
    "lm": {"mlx-host-lm", "mlx-host-text", "mlx-host-parsers"},
    "vlm": {"mlx-host-vlm", "mlx-host-text", "mlx-host-media", "mlx-host-parsers"},
    "embeddings": {"mlx-host-embeddings", "mlx-host-text", "mlx-host-media"},
    "whisper": {"mlx-host-whisper", "mlx-host-media"},
    "flux": {"mlx-host-flux", "mlx-host-media"},
    "messages": {"mlx-host-messages"},
    "parsers": {"mlx-host-parsers", "mlx-host-parser-qwen3"},
}
BACKENDS["all"] = set().union(*(packages for extra, packages in BACKENDS.items() if extra != "flux"))
# The extras that select a build of MLX on Linux.
BUILDS = {"cpu": "mlx-cpu", "cuda12": "mlx-cuda-12", "cuda13": "mlx-cuda-13"}
PLATFORMS = {"linux": "x86_64-manylinux_2_40", "macos": "aarch64-apple-darwin"}


def resolve(
    dists: Path, requirement: str, platform: str, *more: str, python: str = "3.11"
) -> subprocess.CompletedProcess[str]:
    """Resolve a requirement as pip would, outside of the workspace and its pins."""
    options = ["--no-config", "--no-header", "--no-annotate", "--find-links", str(dists), "--python-version", python]
    command = [uv(), "pip", "compile", "--quiet", *options, "--python-platform", PLATFORMS[platform], *more, "-"]
    # MLX has wheels for macOS 14 and later; uv assumes macOS 13.
    env = clean_environment({"MACOSX_DEPLOYMENT_TARGET": "14.0"})
    return subprocess.run(command, cwd=dists, env=env, input=requirement, capture_output=True, text=True, check=False)


def packages(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The names of the resolved packages."""
    assert done.returncode == 0, done.stderr
    return {line.partition("==")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("extra", BACKENDS)
def test_an_extra_resolves_to_its_packages(dists: Path, extra: str, platform: str) -> None:
    resolved = packages(resolve(dists, f"mlx-host[{extra}]", platform))
    assert BACKENDS[extra] | {"mlx-host"} <= resolved
    assert ("mlx-host-flux" in resolved) == (extra == "flux" or (extra == "all" and platform == "macos"))
    # mflux requires a build on Linux; otherwise, the user chooses one.
    assert bool(resolved & set(BUILDS.values())) == (extra == "flux" and platform == "linux")


@pytest.mark.parametrize("python", ["3.12", "3.13", "3.14"])
def test_all_extras_resolve_with_later_versions_of_python(dists: Path, python: str) -> None:
    assert BACKENDS["all"] <= packages(resolve(dists, "mlx-host[all,cpu]", "linux", python=python))


@pytest.mark.parametrize("build", BUILDS)
def test_an_extra_selects_the_build_of_mlx_on_linux(dists: Path, build: str) -> None:
    requirement = f"mlx-host[all,{build}]"
    assert packages(resolve(dists, requirement, "linux")) & set(BUILDS.values()) == {BUILDS[build]}
    assert "mlx-metal" in packages(resolve(dists, requirement, "macos"))


@pytest.mark.parametrize("other", ["lm", "vlm", "embeddings", "whisper", "cpu"])
def test_flux_does_not_resolve_with_others_on_linux(dists: Path, other: str) -> None:
    """Why [all] has no flux on Linux. If this fails, mflux has changed: add it to [all], and change the error."""
    done = resolve(dists, f"mlx-host[{other},flux]", "linux")
    assert done.returncode != 0, done.stdout
    assert "mflux" in done.stderr
    assert "mlx-host-flux" in packages(resolve(dists, f"mlx-host[{other},flux]", "macos"))


def options(tmp_path: Path, readme: Path) -> list[str]:
    """The options with which the `uv tool install` of a README omits dependencies."""
    found = blocks(readme)
    (command,) = [line for block in found for line in block.text.splitlines() if line.startswith("uv tool install")]
    for block in found:
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
    match = re.search(r"(--overrides|--excludes) (?:<\(echo (\w+)\)|(\S+))$", command)
    assert match is not None, command
    option, name, file = match.groups()
    if name is not None:
        file = "names.txt"
        (tmp_path / file).write_text(name)
    return [option, str(tmp_path / file)]


@pytest.mark.parametrize(("backend", "unused"), [("whisper", "torch"), ("flux", "torch"), ("vlm", "datasets")])
def test_the_documented_commands_omit_unused_dependencies(
    dists: Path, tmp_path: Path, backend: str, unused: str
) -> None:
    more = options(tmp_path, ROOT / "plugins" / backend / "README.md")
    resolved = packages(resolve(dists, f"mlx-host[{backend},cpu]", "linux", *more))
    assert {f"mlx-host-{backend}", "mlx-cpu"} <= resolved
    assert not [name for name in resolved if name.startswith((unused, "nvidia", "mlx-cuda", "triton"))]

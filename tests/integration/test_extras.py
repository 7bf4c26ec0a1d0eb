"""The extras of mlx-host install what they name, with any resolver and without the workspace's pins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.command import environment
from tests.support.plugin_projects import uv

ROOT = Path(__file__).parents[2]
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
PLATFORMS = {"linux": "x86_64-manylinux_2_40", "macos": "aarch64-apple-darwin"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    command = [uv(), "build", "--all-packages", "--wheel", "--quiet", "-o", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def resolve(wheels: Path, requirement: str, platform: str) -> subprocess.CompletedProcess[str]:
    """Resolve a requirement as pip would, outside of the workspace and its pins."""
    options = ["--no-config", "--no-header", "--no-annotate", "--find-links", str(wheels), "--python-version", "3.11"]
    command = [uv(), "pip", "compile", "--quiet", *options, "--python-platform", PLATFORMS[platform], "-"]
    # MLX has wheels for macOS 14 and later; uv assumes macOS 13.
    env = environment({"MACOSX_DEPLOYMENT_TARGET": "14.0"})
    return subprocess.run(command, cwd=wheels, env=env, input=requirement, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("extra", BACKENDS)
def test_an_extra_resolves_to_its_packages(wheels: Path, extra: str, platform: str) -> None:
    done = resolve(wheels, f"mlx-host[{extra}]", platform)
    assert done.returncode == 0, done.stderr
    resolved = {line.partition("==")[0] for line in done.stdout.splitlines()}
    assert BACKENDS[extra] | {"mlx-host"} <= resolved
    assert ("mlx-host-flux" in resolved) == (extra == "flux" or (extra == "all" and platform == "macos"))


def test_flux_with_lm_does_not_resolve_on_linux(wheels: Path) -> None:
    """This is why [all] excludes flux on Linux; if it fails, mflux has changed and [all] can include it."""
    done = resolve(wheels, "mlx-host[lm,flux]", "linux")
    assert done.returncode != 0
    assert "mlx" in done.stderr

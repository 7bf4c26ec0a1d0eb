"""The error of a model whose MLX cannot be imported, with a broken MLX in front of the installed one.

tests/packages/test_install.py has the error of an environment without a build of MLX.
"""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.command import mlx_host
from tests.support.tiny_llama import write_tiny_llama

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="on macOS, MLX has one build")
MLX = version("mlx")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny")


def broken_mlx(folder: Path, *builds: str) -> Path:
    """Write an MLX whose extension module cannot be loaded, and the metadata of these packages."""
    (folder / "mlx").mkdir()
    (folder / "mlx" / "__init__.py").touch()
    (folder / "mlx" / f"core{EXTENSION_SUFFIXES[0]}").write_bytes(b"not a library")
    for build in builds:
        metadata = folder / f"{build.replace('-', '_')}-{MLX}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {build}\nVersion: {MLX}\n")
    return folder


@pytest.mark.parametrize("build", ["mlx-cuda-12", "mlx-cuda-13"])
def test_a_build_for_cuda_that_does_not_load_is_named_with_the_commands_to_replace_it(
    tmp_path: Path, model: Path, build: str
) -> None:
    args = ("run", "--backend", "lm", "--model", str(model), "--port", "0")
    done = mlx_host(*args, plugins=[broken_mlx(tmp_path, build)], cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "MLX cannot be used (ImportError: " in last
    assert f"{build} needs an NVIDIA GPU" in last
    assert f"`pip uninstall -y {build}`" in last
    assert f"mlx-cpu=={MLX}`" in last


def test_a_build_for_the_cpu_that_does_not_load_can_be_reinstalled(tmp_path: Path, model: Path) -> None:
    args = ("run", "--backend", "lm", "--model", str(model), "--port", "0")
    done = mlx_host(*args, plugins=[broken_mlx(tmp_path)], cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"reinstall it with `pip install --force-reinstall --no-deps mlx-cpu=={MLX}`" in last

"""The distributions as wheels, installed into separate environments."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from mlx_host import __version__

from tests.support.client import CHAT, post
from tests.support.command import complaint, environment, mlx_host
from tests.support.media import look
from tests.support.plugin_projects import uv
from tests.support.server import FAST_BLAS, running_server
from tests.support.tiny_llama import write_tiny_llama
from tests.support.tiny_vlm import write_tiny_qwen2_vl

ROOT = Path(__file__).parents[2]


def run_uv(*args: str | Path) -> None:
    done = subprocess.run([uv(), *args], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    run_uv("build", "--all-packages", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", folder)
    return folder


class Environment:
    """A virtual environment with some of our wheels and, otherwise, the package versions of the test environment."""

    def __init__(self, folder: Path, wheels: Path, *packages: str) -> None:
        self.python = str(folder / "bin" / "python")
        pins = folder.with_suffix(".txt")
        others = [dist for dist in distributions() if not dist.name.startswith("mlx-host")]
        pins.write_text("".join(f"{dist.name}=={dist.version}\n" for dist in others))
        run_uv("venv", "--quiet", "--python", sys.executable, folder)
        own = [f"{package}=={__version__}" for package in packages]
        options = ["--python", self.python, "--find-links", str(wheels), "--constraints", str(pins)]
        run_uv("pip", "install", "--quiet", *options, *own)

    def mlx_host(self, *args: str) -> subprocess.CompletedProcess[str]:
        return mlx_host(*args, python=self.python)

    def plugins(self) -> dict[str, dict[str, Any]]:
        listed = json.loads(self.mlx_host("plugins", "--json").stdout)
        assert (listed["skipped"], listed["conflicts"]) == ([], [])
        return {row["name"]: row for row in listed["plugins"] if row["distribution"] != "mlx-host"}


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Environment:
    return Environment(tmp_path_factory.mktemp("core") / "venv", wheels, "mlx-host")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Environment:
    packages = ("mlx-host-lm", "mlx-host-parser-qwen3", "mlx-host-echo")
    return Environment(tmp_path_factory.mktemp("text") / "venv", wheels, *packages)


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Environment:
    return Environment(tmp_path_factory.mktemp("vision") / "venv", wheels, "mlx-host-vlm")


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Environment:
    return Environment(tmp_path_factory.mktemp("flux") / "venv", wheels, "mlx-host-flux")


def test_each_wheel_contains_only_the_modules_of_its_package(wheels: Path) -> None:
    members = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]
    installed_modules: Counter[str] = Counter()
    files = list(wheels.glob("*.whl"))
    for file in files:
        names = zipfile.ZipFile(file).namelist()
        modules = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        # mlx-host-parsers consists of its dependencies.
        assert modules or file.name.startswith("mlx_host_parsers-"), f"{file.name} is empty"
        assert all(module.startswith("mlx_host") for module in modules), f"{file.name} contains {modules}"
        assert not [name for name in names if "test_" in name or "__pycache__" in name]
        installed_modules.update(modules)
    assert set(installed_modules.values()) == {1}
    assert len(files) == len(members)


def test_core_alone_installs_and_serves(core: Environment) -> None:
    assert core.mlx_host("--version").stdout == f"mlx-host, version {__version__}\n"
    assert core.plugins() == {}
    assert "Load models and serve them." in core.mlx_host("--help").stdout


def test_core_alone_installs_no_model_library_and_no_test_tools(core: Environment) -> None:
    script = "import importlib.util, sys; print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    names = ["mlx_host", "mlx", "mlx_lm", "transformers", "numpy", "torch", "pytest", "hypothesis"]
    command = [core.python, "-c", script, *names]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['mlx_host']"


@pytest.mark.parametrize("backend", ["lm", "vlm", "flux", "embeddings", "whisper"])
def test_core_alone_names_the_package_of_a_backend(core: Environment, backend: str) -> None:
    message = complaint(core.mlx_host("run", "--backend", backend, "--model", "org/name"))
    assert message == (
        f"Unknown backend {backend!r}. Installed backends: none. Install it with: pip install mlx-host-{backend}"
    )


def test_core_alone_names_the_package_of_a_parser(core: Environment) -> None:
    done = core.mlx_host("parser", "fuzz", "qwen3")
    assert done.returncode == 2
    assert "such as mlx-host-parser-qwen3." in done.stderr


def test_plugins_are_found_from_their_wheels(text: Environment) -> None:
    plugins = text.plugins()
    assert set(plugins) == {"lm", "qwen3", "echo"}
    assert set(plugins["lm"]["backends"]) == {"lm"}
    assert set(plugins["echo"]["backends"]) == {"echo"}
    assert "qwen3" in plugins["qwen3"]["parsers"]
    assert {row["version"] for row in plugins.values()} == {__version__}


def test_a_model_is_served_from_wheels(text: Environment, tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "tiny")
    args = ["--backend", "lm", "--model", str(folder), "--parser", "qwen3", *FAST_BLAS]
    with running_server(*args, python=text.python) as server:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
        response = post(server, body, CHAT)
        assert response.status_code == 200, response.text
        assert response.json()["usage"]["completion_tokens"] == 5
        assert response.json()["choices"][0]["finish_reason"] == "length"


def test_a_vision_model_is_served_from_wheels(vision: Environment, tmp_path: Path) -> None:
    assert set(vision.plugins()) == {"vlm"}
    folder = write_tiny_qwen2_vl(tmp_path / "tiny")
    with running_server("--backend", "vlm", "--model", str(folder), *FAST_BLAS, python=vision.python) as server:
        response = post(server, {"model": "tiny", "messages": look(1), "max_tokens": 5}, CHAT)
        assert response.status_code == 200, response.text
        assert response.json()["usage"]["completion_tokens"] == 5


def test_the_third_party_example_is_served_from_its_wheel(text: Environment) -> None:
    with running_server("--backend", "echo", "--uppercase", python=text.python) as server:
        response = post(server, {"model": "echo", "messages": [{"role": "user", "content": "shout it"}]}, CHAT)
        assert response.json()["choices"][0]["message"]["content"] == "SHOUT IT"


def test_flux_installs_alone(flux: Environment, tmp_path: Path) -> None:
    assert set(flux.plugins()) == {"flux"}
    assert "--config-name" in flux.mlx_host("run", "--backend", "flux", "--help").stdout
    # The error comes from mflux, which opens the folder.
    args = ["--backend", "flux", "--config-name", "flux2-klein-4b", "--model", str(tmp_path)]
    done = flux.mlx_host("run", "--port", "0", *args)
    assert done.returncode != 0
    assert "mflux" in done.stderr
    assert "'flux2-klein-4b'" in done.stderr

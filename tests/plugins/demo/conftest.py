from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlx_host_demo.plugin import resolve_source


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty model cache, which is removed after the test because a converted model has half a gigabyte."""
    root = tmp_path / "cache"
    monkeypatch.setenv("MLX_HOST_CACHE", str(root))
    yield root
    if root.is_dir():
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SmolLM2, converted once per session."""
    root = tmp_path_factory.mktemp("demo-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLX_HOST_CACHE", str(root))
        source = resolve_source("demo:smollm2")
        assert source is not None
        yield source.fetch(lambda stage, done, total, note="": None)
    shutil.rmtree(root)

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlx_host_demo.plugin import resolve_source
from mlx_host_whisper.mlx_whisper_api import Whisper

from tests.support.tiny_whisper import MULTILINGUAL, write_tiny_whisper


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random English-only model."""
    return write_tiny_whisper(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def multilingual_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(tmp_path_factory.mktemp("multilingual"), MULTILINGUAL)


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Whisper:
    return Whisper(tiny_folder, "float32")


@pytest.fixture(scope="session")
def multilingual(multilingual_folder: Path) -> Whisper:
    return Whisper(multilingual_folder, "float32")


@pytest.fixture(scope="session")
def whisper_tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Whisper tiny.en from demo:whisper-tiny.en, converted once per session."""
    root = tmp_path_factory.mktemp("demo-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLX_HOST_CACHE", str(root))
        source = resolve_source("demo:whisper-tiny.en")
        assert source is not None
        yield source.fetch(lambda stage, done, total, note="": None)
    shutil.rmtree(root)

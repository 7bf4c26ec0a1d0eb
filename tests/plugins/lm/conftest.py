from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import load
from tests.support.tiny_llama import write_tiny_lfm2, write_tiny_llama


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def tiny_sliding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-sliding"), sliding_window=32)


@pytest.fixture(scope="session")
def tiny_lfm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_lfm2(tmp_path_factory.mktemp("tiny-lfm2"))


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Iterator[TextModel]:
    loaded = load(tiny_llama)
    yield loaded
    loaded.close()

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlx_host_embeddings.model import EmbeddingModel

from tests.plugins.embeddings.driver import load, minilm


@pytest.fixture(scope="session")
def model() -> Iterator[EmbeddingModel]:
    """all-MiniLM-L6-v2, a real model."""
    loaded = load(minilm())
    yield loaded
    loaded.close()

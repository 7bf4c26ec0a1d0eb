from __future__ import annotations

from pathlib import Path

import pytest
from mlx_host_text.tokenizer import Tokenizer
from transformers import AutoTokenizer

from tests.support.tiny_llama import write_tiny_llama


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def tokenizer(tiny_llama: Path) -> Tokenizer:
    return Tokenizer(AutoTokenizer.from_pretrained(tiny_llama))

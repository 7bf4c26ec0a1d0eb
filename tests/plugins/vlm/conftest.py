from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlx_host.backend import LoadContext
from mlx_host.requests import ChatRequest
from mlx_host_text.model import TextModel
from mlx_host_vlm.loader import load_model
from mlx_host_vlm.media import find_parts
from mlx_host_vlm.mlx_vlm_api import LoadedModel
from mlx_host_vlm.options import VlmOptions
from mlx_host_vlm.prompts import VlmPrompts

from tests.plugins.lm.driver import no_progress, result
from tests.support.tiny_llama import write_tiny_llama
from tests.support.tiny_vlm import (
    write_tiny_gemma3n,
    write_tiny_gemma4,
    write_tiny_glm4v,
    write_tiny_qwen2_vl,
    write_tiny_qwen3_vl,
)


def parts(model: TextModel) -> tuple[LoadedModel, VlmPrompts]:
    """The loaded network of a vision model, and the source of its prompts."""
    prompts = model._prompts
    assert isinstance(prompts, VlmPrompts)
    return prompts._loaded, prompts


def processed(model: TextModel, request: ChatRequest) -> dict[str, Any]:
    """The processor's output for a request with images."""
    _, prompts = parts(model)
    media = result(prompts._media.load(find_parts(request.messages)))
    return prompts._process(prompts._template.render(request).text, media)


def load(folder: Path, **options: object) -> TextModel:
    with warnings.catch_warnings():
        # transformers warns about the mel filters in Gemma's own configuration.
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
        return load_model(LoadContext(str(folder), folder, VlmOptions.model_validate(options), no_progress))


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_qwen2_vl(tmp_path_factory.mktemp("tiny-qwen2-vl"))


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gemma4(tmp_path_factory.mktemp("tiny-gemma4"))


@pytest.fixture(scope="session")
def tiny_text_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-only model."""
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def qwen(tiny_qwen: Path) -> Iterator[TextModel]:
    """A vision model whose caches can be trimmed."""
    model = load(tiny_qwen)
    yield model
    model.close()


@pytest.fixture(scope="session")
def deepstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextModel]:
    """A vision model with deepstack features (added in deeper layers) and a prefill chunk of 3 tokens."""
    model = load(write_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny-qwen3-vl")), prefill_step_size=3)
    yield model
    model.close()


@pytest.fixture(scope="session")
def glm4v(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextModel]:
    """A vision model that stores the positions of its last prompt only, with a prefill chunk of 3 tokens."""
    model = load(write_tiny_glm4v(tmp_path_factory.mktemp("tiny-glm4v")), prefill_step_size=3)
    yield model
    model.close()


@pytest.fixture(scope="session")
def gemma(tiny_gemma: Path) -> Iterator[TextModel]:
    """A vision and audio model with a sliding window, whose image tokens attend to each other."""
    model = load(tiny_gemma)
    yield model
    model.close()


@pytest.fixture(scope="module")
def gemma3n(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextModel]:
    """An audio model whose layers share caches; closed after each module, because it has 600 MB of zeros."""
    model = load(write_tiny_gemma3n(tmp_path_factory.mktemp("tiny-gemma3n")))
    yield model
    model.close()

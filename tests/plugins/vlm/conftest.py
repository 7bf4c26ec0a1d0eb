from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from mlx_host.backend import LoadContext
from mlx_host_vlm.model import VisionModel, load_model
from mlx_host_vlm.options import VlmOptions

from tests.plugins.lm.driver import no_progress
from tests.support.tiny_llama import write_tiny_llama
from tests.support.tiny_vlm import (
    write_tiny_gemma3n,
    write_tiny_gemma4,
    write_tiny_glm4v,
    write_tiny_qwen2_vl,
    write_tiny_qwen3_vl,
)

T = TypeVar("T")


def result(steps: Generator[None, None, T]) -> T:
    """What a generator comes to."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            value: T = stop.value
            return value


def load(folder: Path, **options: object) -> VisionModel:
    with warnings.catch_warnings():
        # transformers finds Gemma's own spectrograms finer than they can be.
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
        return load_model(LoadContext(str(folder), folder, VlmOptions.model_validate(options), no_progress))


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_qwen2_vl(tmp_path_factory.mktemp("tiny-qwen2-vl"))


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gemma4(tmp_path_factory.mktemp("tiny-gemma4"))


@pytest.fixture(scope="session")
def tiny_reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without eyes or ears."""
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def qwen(tiny_qwen: Path) -> Iterator[VisionModel]:
    """A model that sees, whose caches can be cut back."""
    model = load(tiny_qwen)
    yield model
    model.close()


@pytest.fixture(scope="session")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VisionModel]:
    """A model in which what is seen goes into deeper layers, too; it reads three tokens at a time."""
    model = load(write_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny-qwen3-vl")), prefill_step_size=3)
    yield model
    model.close()


@pytest.fixture(scope="session")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VisionModel]:
    """A model whose network keeps the positions of the last prompt alone; it reads three tokens at a time."""
    model = load(write_tiny_glm4v(tmp_path_factory.mktemp("tiny-glm4v")), prefill_step_size=3)
    yield model
    model.close()


@pytest.fixture(scope="session")
def gemma(tiny_gemma: Path) -> Iterator[VisionModel]:
    """A model that sees and hears, with a sliding window, in whose pictures all tokens see each other."""
    model = load(tiny_gemma)
    yield model
    model.close()


@pytest.fixture(scope="module")
def gemma3n(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VisionModel]:
    """A model that hears, whose layers share caches; not for the session, because it holds 600 MB of zeros."""
    model = load(write_tiny_gemma3n(tmp_path_factory.mktemp("tiny-gemma3n")))
    yield model
    model.close()

"""Pins what mlx_host_embeddings uses of mlx-embeddings; a failure here shows what an upgrade changed."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from mlx_embeddings import models, tokenizer_utils, utils
from mlx_embeddings.models import qwen3_vl, siglip
from mlx_host_embeddings.mlx_embeddings_api import FAMILIES
from mlx_host_embeddings.model_types import IMAGE_TYPES, MULTI_VECTOR_TYPES, TEXT_TYPES

from tests.plugins.embeddings.driver import minilm


def test_loading_functions_have_the_used_parameters() -> None:
    assert next(iter(inspect.signature(utils.load_config).parameters)) == "model_path"
    parameters = inspect.signature(utils.load_model).parameters
    assert next(iter(parameters)) == "model_path"
    # It contains path_to_repo.
    assert parameters["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
    assert 'kwargs["path_to_repo"]' in inspect.getsource(utils.load_model)


def test_the_tokenizer_wraps_a_transformers_tokenizer() -> None:
    assert next(iter(inspect.signature(tokenizer_utils.load_tokenizer).parameters)) == "model_path"
    inner = tokenizer_utils.load_tokenizer(minilm())._tokenizer
    assert inner.pad_token_id == 0
    assert inner.model_max_length == 512
    assert (inner.eos_token_id, inner.sep_token_id) == (None, 102)


def test_the_listed_text_types_are_those_that_can_be_loaded() -> None:
    assert set(TEXT_TYPES) == set(FAMILIES)


@pytest.mark.parametrize("kind", FAMILIES)
def test_models_accept_tokens_and_a_mask(kind: str) -> None:
    parameters = list(
        inspect.signature(importlib.import_module(f"mlx_embeddings.models.{kind}").Model.__call__).parameters
    )
    assert parameters[1] in ("input_ids", "inputs")
    assert "attention_mask" in parameters


def test_every_architecture_is_known() -> None:
    architectures = {path.stem for path in Path(models.__path__[0]).iterdir() if path.stem.strip("_")}
    # Its image processor is code that comes with the model.
    unsupported = {"llama_nemotron_vl"}
    assert architectures - {"base", "__init__", "__pycache__"} == {
        *FAMILIES,
        *MULTI_VECTOR_TYPES,
        *IMAGE_TYPES,
        *unsupported,
    }


def test_image_models_have_the_used_methods() -> None:
    texts, images = siglip.Model.get_text_features, siglip.Model.get_image_features
    assert "input_ids" in inspect.signature(texts).parameters
    assert "pixel_values" in inspect.signature(images).parameters
    used = {"input_ids", "pixel_values", "image_grid_thw"}
    assert used <= set(inspect.signature(qwen3_vl.Model.__call__).parameters)
    assert next(iter(inspect.signature(qwen3_vl.Processor.from_pretrained).parameters)) == "model_path"
    assert {"embedding_max_length", "trust_remote_code"} <= set(
        re.findall(r'kwargs\.pop\(\s*"(\w+)"', inspect.getsource(qwen3_vl.Processor.from_pretrained))
    )
    # The attribute that keeps the positions of the last call.
    assert "language_model._position_ids is not None" in inspect.getsource(qwen3_vl.model)


def test_mlx_lm_is_imported_only_for_the_architectures_that_need_it() -> None:
    code = (
        "import sys, mlx_host_embeddings.mlx_embeddings_api; "
        "print([name for name in ('mlx_lm', 'mlx_embeddings.models.qwen3_vl') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_mlx_lm_is_declared() -> None:
    """mlx-embeddings imports mlx-lm without declaring it."""
    declared = [re.split(r"[^\w-]", each)[0] for each in metadata.requires("mlx-host-embeddings") or ()]
    assert "mlx-lm" in declared

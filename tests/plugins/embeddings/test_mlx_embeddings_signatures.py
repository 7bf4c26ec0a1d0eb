"""Pins what mlx_host_embeddings uses of mlx-embeddings; a failure here says what an upgrade changed."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
from mlx_embeddings import models, tokenizer_utils, utils
from mlx_host_embeddings.mlx_embeddings_api import FAMILIES, MANY_VECTORS

from tests.plugins.embeddings.driver import minilm


def test_loading_takes_a_folder_and_the_name_that_it_goes_by() -> None:
    assert next(iter(inspect.signature(utils.load_config).parameters)) == "model_path"
    parameters = inspect.signature(utils.load_model).parameters
    assert next(iter(parameters)) == "model_path"
    # path_to_repo is read from these.
    assert parameters["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
    assert 'kwargs["path_to_repo"]' in inspect.getsource(utils.load_model)


def test_the_tokenizer_wraps_one_of_hugging_face() -> None:
    assert next(iter(inspect.signature(tokenizer_utils.load_tokenizer).parameters)) == "model_path"
    inner = tokenizer_utils.load_tokenizer(minilm())._tokenizer
    assert inner.pad_token_id == 0
    assert inner.model_max_length == 512
    assert (inner.eos_token_id, inner.sep_token_id) == (None, 102)


@pytest.mark.parametrize("kind", FAMILIES)
def test_models_take_tokens_and_a_mask(kind: str) -> None:
    parameters = list(
        inspect.signature(importlib.import_module(f"mlx_embeddings.models.{kind}").Model.__call__).parameters
    )
    assert parameters[1] in ("input_ids", "inputs")
    assert "attention_mask" in parameters


def test_every_architecture_there_is_is_served_or_known_not_to_be() -> None:
    there_are = {path.stem for path in Path(models.__path__[0]).iterdir() if path.stem.strip("_")}
    pictures = {"siglip", "qwen3_vl", "llama_nemotron_vl"}
    assert there_are - {"base", "__init__", "__pycache__"} == {*FAMILIES, *MANY_VECTORS, *pictures}

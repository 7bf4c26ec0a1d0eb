"""Pins what mlx_host_embeddings uses of mlx-embeddings; a failure here says what an upgrade changed."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
from mlx_embeddings import models, tokenizer_utils, utils
from mlx_embeddings.models import qwen3_vl, siglip
from mlx_host_embeddings.mlx_embeddings_api import FAMILIES, IMAGE_FAMILIES, MULTI_VECTOR_MODELS

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
    # This one's images need code that comes with the model.
    not_served = {"llama_nemotron_vl"}
    assert there_are - {"base", "__init__", "__pycache__"} == {
        *FAMILIES,
        *MULTI_VECTOR_MODELS,
        *IMAGE_FAMILIES,
        *not_served,
    }


def test_models_with_images_have_what_is_called() -> None:
    texts, images = siglip.Model.get_text_features, siglip.Model.get_image_features
    assert "input_ids" in inspect.signature(texts).parameters
    assert "pixel_values" in inspect.signature(images).parameters
    wanted = {"input_ids", "pixel_values", "image_grid_thw"}
    assert wanted <= set(inspect.signature(qwen3_vl.Model.__call__).parameters)
    assert next(iter(inspect.signature(qwen3_vl.Processor.from_pretrained).parameters)) == "model_path"
    assert {"embedding_max_length", "trust_remote_code"} <= set(
        re.findall(r'kwargs\.pop\(\s*"(\w+)"', inspect.getsource(qwen3_vl.Processor.from_pretrained))
    )
    # It keeps the positions of its last call under this name.
    assert "language_model._position_ids is not None" in inspect.getsource(qwen3_vl.model)

"""Pooling, normalization, prefixes and maximum length come from the model's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlx_host.errors import InvalidRequestError, LoadError
from mlx_host_text.pooling_config import POOLING_KEYS, PoolingConfig, read_pooling_config

from tests.plugins.embeddings.driver import add_stages, embed, load, minilm, write_tiny


@pytest.mark.parametrize(("key", "mode"), POOLING_KEYS.items())
def test_pooling_is_read_from_the_folder_in_modules_json(key: str, mode: str, tmp_path: Path) -> None:
    others = dict.fromkeys(POOLING_KEYS, False)
    add_stages(tmp_path, {**others, key: True})
    assert read_pooling_config(tmp_path, {}).pooling == (mode,)
    add_stages(tmp_path, {"pooling_mode": mode})
    assert read_pooling_config(tmp_path, {}).pooling == (mode,)


def test_configuration_of_minilm() -> None:
    config = read_pooling_config(minilm(), {})
    assert config == PoolingConfig(pooling=("mean",), dense=0, normalize=True, max_length=256)


def test_an_empty_folder_has_the_defaults(tmp_path: Path) -> None:
    assert read_pooling_config(tmp_path, {}) == PoolingConfig()


@pytest.mark.parametrize("pooling", [{"pooling_mode_mean_tokens": False}, {"pooling_mode": "fancy"}])
def test_an_unknown_pooling_is_rejected(pooling: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cls, max"):
        read_pooling_config(add_stages(tmp_path, pooling), {})


def test_an_unknown_stage_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(
        json.dumps([{"type": "sentence_transformers.models.WeightedLayerPooling", "path": ""}])
    )
    with pytest.raises(LoadError, match="WeightedLayerPooling"):
        read_pooling_config(tmp_path, {})


def test_a_model_is_pooled_as_its_files_specify(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path, "bert")
    vectors = {}
    for key, mode in POOLING_KEYS.items():
        add_stages(folder, {key: True})
        vectors[mode] = embed(load(folder), "the quick brown fox")[0]
        np.testing.assert_allclose(np.linalg.norm(vectors[mode]), 1, atol=1e-5)
    assert not np.allclose(vectors["cls"], vectors["lasttoken"], atol=1e-3)
    assert not np.allclose(vectors["cls"], vectors["mean"], atol=1e-3)
    np.testing.assert_allclose(embed(load(folder, pooling="cls"), "the quick brown fox")[0], vectors["cls"], atol=1e-6)


def test_vectors_are_not_normalized_without_a_normalize_stage(tmp_path: Path) -> None:
    folder = add_stages(write_tiny(tmp_path, "bert"), {"pooling_mode_mean_tokens": True}, normalize=False)
    vector = embed(load(folder), "the quick brown fox")[0]
    assert abs(np.linalg.norm(vector) - 1) > 0.1


def prompts(folder: Path, **settings: Any) -> Path:
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def test_prefixes_come_from_the_models_files(tmp_path: Path) -> None:
    folder = prompts(write_tiny(tmp_path, "bert"), prompts={"query": "find: ", "passage": "text: "})
    model = load(folder)
    plain, query, passage = embed(model, "a cat", "find: a cat", "text: a cat")
    np.testing.assert_allclose(embed(model, "a cat")[0], plain, atol=1e-5)
    np.testing.assert_allclose(embed(model, "a cat", input_type="query")[0], query, atol=1e-5)
    np.testing.assert_allclose(embed(model, "a cat", input_type="document")[0], passage, atol=1e-5)
    assert not np.allclose(plain, query, atol=1e-3)


def test_the_default_prompt_applies_without_an_input_type(tmp_path: Path) -> None:
    folder = prompts(write_tiny(tmp_path, "bert"), prompts={"query": "find: "}, default_prompt_name="query")
    model, plain = load(folder), load(prompts(folder))
    np.testing.assert_allclose(embed(model, "a cat"), embed(plain, "find: a cat"), atol=1e-5)


def test_options_override_the_files(tmp_path: Path) -> None:
    folder = prompts(write_tiny(tmp_path, "bert"), prompts={"query": "find: "})
    model = load(folder, query_prefix="seek: ", document_prefix="doc: ", default_input_type="document")
    seek, doc, without_prefix = (
        embed(model, "a cat", input_type="query"),
        embed(model, "a cat"),
        load(folder, query_prefix=""),
    )
    np.testing.assert_allclose(seek, embed(without_prefix, "seek: a cat"), atol=1e-5)
    np.testing.assert_allclose(doc, embed(without_prefix, "doc: a cat"), atol=1e-5)
    np.testing.assert_allclose(
        embed(without_prefix, "a cat", input_type="query"), embed(without_prefix, "a cat"), atol=1e-5
    )


def test_prompt_tokens_can_be_excluded_from_the_pooling(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path, "bert")
    pooling = {"pooling_mode_cls_token": True, "include_prompt": False}
    model = load(add_stages(folder, pooling), query_prefix="find it: ")
    (encoded,) = model.embedder.encode(["cat"], "query")
    # [CLS] find it : | cat [SEP]
    assert (len(encoded.tokens), encoded.skip) == (6, 4)
    (plain,) = model.embedder.encode(["cat"], None)
    assert plain.skip == 0


def test_length_and_lower_casing_come_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64, "do_lower_case": True}))
    pooling_config = read_pooling_config(tmp_path, {})
    assert pooling_config.lower_case
    assert pooling_config.max_length == 64


@pytest.mark.parametrize(
    ("config", "options", "supported", "unsupported"),
    [
        ({"matryoshka_dimensions": [8, 16]}, {}, 8, 9),
        ({"is_matryoshka": True}, {}, 1, 33),
        ({}, {"matryoshka": True}, 5, 33),
    ],
)
def test_vectors_are_shortened_if_the_model_is_trained_for_it(
    config: dict[str, Any], options: dict[str, Any], supported: int, unsupported: int, tmp_path: Path
) -> None:
    model = load(write_tiny(tmp_path, "bert", **config), **options)
    whole, short = embed(model, "a cat")[0], embed(model, "a cat", dimensions=supported)[0]
    np.testing.assert_allclose(short, whole[:supported] / np.linalg.norm(whole[:supported]), atol=1e-5)
    with pytest.raises(InvalidRequestError, match=f"{unsupported}"):
        embed(model, "a cat", dimensions=unsupported)

"""Small random models of every supported architecture have the vectors of mlx-embeddings, alone and in a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_embeddings
import numpy as np
import pytest
from mlx_host.errors import EngineError, LoadError
from mlx_host.testing.model_contract import ScheduledRequest, run_together
from mlx_host_embeddings.mlx_embeddings_api import FAMILIES
from mlx_host_embeddings.model_types import MULTI_VECTOR_TYPES

from tests.plugins.embeddings.driver import (
    ARCHITECTURES,
    add_stages,
    embed,
    embedding_request,
    load,
    vectors_of,
    write_tiny,
)

TEXTS = ["a cat", "the quick brown fox jumps over the lazy dog", "one " * 100, "two words"]


def test_all_supported_architectures_are_tested() -> None:
    assert set(ARCHITECTURES) == set(FAMILIES)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_vectors_equal_those_of_mlx_embeddings_alone_and_in_a_batch(kind: str, tmp_path: Path) -> None:
    folder = write_tiny(tmp_path, kind)
    network, tokenizer = mlx_embeddings.load(str(folder))
    expected = np.concatenate([np.array(mlx_embeddings.generate(network, tokenizer, t).text_embeds) for t in TEXTS])
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    # The short texts share a pass; the long one does not, because of the limit on padding.
    model = load(folder)
    for vectors in (
        embed(model, *TEXTS),
        embed(model, *reversed(TEXTS))[::-1],
        np.concatenate(
            [
                vectors_of(events)
                for events in run_together(model, [ScheduledRequest(embedding_request(text)) for text in TEXTS])
            ]
        ),
    ):
        np.testing.assert_allclose(vectors, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_padding_does_not_change_vectors_in_any_precision(kind: str, dtype: mx.Dtype, tmp_path: Path) -> None:
    """One pass with an input that is mostly padding: with masks that overflow, its vector would be NaN."""
    model = load(write_tiny(tmp_path, kind, dtype))
    embedder = model.embedder
    short, long = embedder.encode(["a cat", "one " * 100], None)
    batched, alone = embedder.embed([short, long]), embedder.embed([short])
    assert batched[0] is not None
    assert alone[0] is not None
    tolerance = 1e-4 if dtype == mx.float32 else 0.1
    np.testing.assert_allclose(np.frombuffer(batched[0], "<f4"), np.frombuffer(alone[0], "<f4"), atol=tolerance)


def test_a_vector_that_is_not_finite_fails_its_request(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path, "bert")
    weights: Any = mx.load(str(folder / "model.safetensors"))
    table = weights["embeddings.word_embeddings.weight"]
    cat_token = 4937
    weights["embeddings.word_embeddings.weight"] = mx.where(
        mx.arange(table.shape[0])[:, None] == cat_token, mx.nan, table
    )
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    model = load(folder)
    with pytest.raises(EngineError, match="input 1 "):
        embed(model, "a dog", "a cat")
    assert np.isfinite(embed(model, "a dog")).all()


@pytest.mark.parametrize("kind", MULTI_VECTOR_TYPES)
def test_models_with_one_vector_per_token_are_rejected(kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(LoadError):
        load(tmp_path)


def test_unsupported_architectures_are_rejected_with_the_supported_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(LoadError, match=r"'t5'.*bert.*xlm_roberta"):
        load(tmp_path)


def test_a_folder_without_a_model_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"config\.json"):
        load(tmp_path)


def test_positions_limit_the_context_length(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path, "xlm_roberta", pad_token_id=1)
    assert load(folder).context_length == 126
    assert load(folder, context_length=20).context_length == 20
    with pytest.raises(LoadError, match=r"--context-length 127.* 126 "):
        load(folder, context_length=127)


def test_dense_layers_that_mlx_embeddings_skips_are_rejected(tmp_path: Path) -> None:
    folder = add_stages(write_tiny(tmp_path, "bert"), {"pooling_mode_mean_tokens": True})
    stages = json.loads((folder / "modules.json").read_text())
    stages.insert(2, {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(stages))
    with pytest.raises(LoadError, match="1 dense layer"):
        load(folder)

"""Embeddings of a text model: the mean of the last hidden states, alone, in a batch and during generation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest
from mlx_host.errors import ContextLengthExceededError, InvalidRequestError, UnsupportedRequestError
from mlx_host.events import EmbeddingBatch, Event, Started, TextDelta
from mlx_host.requests import EmbeddingRequest
from mlx_host.testing.model_contract import ScheduledRequest, run_together
from mlx_host_lm.mlx_lm_api import hidden_states
from mlx_host_text.model import TextModel
from mlx_lm.models import mamba
from mlx_lm.utils import load as load_network

from tests.plugins.lm.driver import chat_request, generate_one, load

TEXTS = ["a cat", "the quick brown fox jumps over the lazy dog", "one " * 300, "two words"]
Vectors = npt.NDArray[np.float32]


def embedding(*inputs: Any, **more: Any) -> EmbeddingRequest:
    return EmbeddingRequest(id="e", model="m", inputs=inputs, **more)


def vectors_of(events: list[Event]) -> Vectors:
    rows: dict[int, Vectors] = {}
    for event in events:
        if isinstance(event, EmbeddingBatch):
            vectors = np.frombuffer(event.vectors, "<f4").reshape(len(event.indices), -1)
            rows.update(zip(event.indices, vectors, strict=True))
    return np.stack([rows[index] for index in range(len(rows))])


def embed(model: TextModel, *inputs: Any, **more: Any) -> Vectors:
    return vectors_of(run_together(model, [ScheduledRequest(embedding(*inputs, **more))])[0])


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_sliding", "tiny_lfm2"])
def test_vectors_are_means_of_hidden_states_alone_and_in_a_batch(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    network, tokenizer = load_network(str(folder))[:2]
    means = [network.model(mx.array([tokenizer.encode(text)])).mean(axis=1)[0] for text in TEXTS]
    expected = np.stack([np.array(mean / mx.linalg.norm(mean)) for mean in means])
    model = load(folder)
    np.testing.assert_allclose(embed(model, *TEXTS), expected, atol=1e-4)
    np.testing.assert_allclose(embed(model, *reversed(TEXTS))[::-1], expected, atol=1e-4)
    events = run_together(
        model, [*(ScheduledRequest(embedding(text)) for text in TEXTS), ScheduledRequest(chat_request("Hello"))]
    )
    np.testing.assert_allclose(np.concatenate([vectors_of(each) for each in events[:-1]]), expected, atol=1e-4)
    model.close()


def test_the_pooling_in_a_models_files_is_used(tiny_llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    (folder / "1_Pooling").mkdir()
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}))
    sentence = {"prompts": {"query": "Find: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(sentence))
    network, tokenizer = load_network(str(folder))[:2]
    model = load(folder)
    for text, input_type in (("a cat", None), ("Find: a cat", "query")):
        last = network.model(mx.array([tokenizer.encode(text)]))[0, -1]
        vector = embed(model, "a cat", input_type=input_type)[0]
        np.testing.assert_allclose(vector, np.array(last / mx.linalg.norm(last)), atol=1e-4)
    model.close()
    # What only the backend embeddings supports is rejected there, and text is generated all the same.
    stages = [{"type": f"x.{kind}", "path": f"{n}"} for n, kind in enumerate(("Transformer", "Pooling", "Dense"))]
    (folder / "modules.json").write_text(json.dumps(stages))
    model = load(folder)
    with pytest.raises(UnsupportedRequestError):
        embed(model, "a cat")
    assert generate_one(model, chat_request("Hello", max_tokens=1)).completion_tokens == 1


def test_embeddings_do_not_change_generated_text(model: TextModel) -> None:
    def text(events: list[Event]) -> str:
        return "".join(event.text for event in events if isinstance(event, TextDelta))

    (alone,) = run_together(model, [ScheduledRequest(chat_request("Hello"))])
    shared, _ = run_together(
        model, [ScheduledRequest(chat_request("Hello")), ScheduledRequest(embedding(*TEXTS * 5), start=3)]
    )
    assert text(shared) == text(alone) != ""


def test_token_ids_are_embedded_without_special_tokens(model: TextModel) -> None:
    text, tokens = run_together(
        model, [ScheduledRequest(embedding("two words")), ScheduledRequest(embedding([1, 2, 3]))]
    )
    assert tokens[0] == Started(prompt_tokens=3)
    assert isinstance(text[0], Started)
    assert text[0].prompt_tokens > 1
    with pytest.raises(InvalidRequestError, match="49152"):
        embed(model, [49152])


def test_an_input_beyond_the_context_is_rejected_or_truncated(tiny_llama: Path) -> None:
    model = load(tiny_llama, context_length=8)
    with pytest.raises(ContextLengthExceededError) as error:
        embed(model, "one " * 300)
    assert (error.value.limit, error.value.prompt_tokens) in ((8, 300), (8, 301))
    np.testing.assert_allclose(
        embed(model, "one two three four five six seven eight nine ten", truncate=True),
        embed(model, "one two three four five six seven eight"),
        atol=1e-5,
    )


def test_other_dimensions_are_rejected(model: TextModel) -> None:
    assert embed(model, "a cat", dimensions=64).shape == (1, 64)
    with pytest.raises(InvalidRequestError) as error:
        embed(model, "a cat", dimensions=32)
    assert error.value.param == "dimensions"


def test_a_network_without_a_backbone_has_no_hidden_states() -> None:
    settings = {"model_type": "mamba", "vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "state_size": 4}
    settings |= {
        "num_hidden_layers": 1,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 2,
    }
    assert hidden_states(mamba.Model(mamba.ModelArgs.from_dict(settings))) is None


def test_a_model_without_an_embedder_rejects_embeddings(model: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_embeddings", None)
    with pytest.raises(UnsupportedRequestError):
        embed(model, "a cat")

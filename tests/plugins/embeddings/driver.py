"""Runs embedding requests, and writes tiny random models of every architecture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten
from mlx_embeddings.utils import _get_classes
from mlx_host.backend import LoadContext, Model
from mlx_host.events import EmbeddingBatch, Event, Finished, Started
from mlx_host.requests import EmbeddingRequest
from mlx_host.testing.model_contract import ScheduledRequest, run_together
from mlx_host_demo.plugin import resolve_source
from mlx_host_embeddings.model import EmbeddingModel, load_model
from mlx_host_embeddings.options import EmbeddingsOptions

Vectors = npt.NDArray[np.float32]

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "vocab_size": 30522,
}
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "bert": {},
    "xlm_roberta": {"pad_token_id": 0},
    "modernbert": {"num_hidden_layers": 4, "local_attention": 8, "architectures": ["ModernBertModel"]},
    "qwen3": {"num_key_value_heads": 2},
    "gemma3_text": {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 16,
        "sliding_window_pattern": 2,
    },
    "llama_bidirec": {"num_key_value_heads": 2},
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def minilm() -> Path:
    source = resolve_source("demo:minilm")
    assert source is not None
    return source.fetch(no_progress)


def no_progress(stage: str, done: int, total: int, note: str = "") -> None:
    """A progress callback that does nothing."""


def load(folder: Path, **options: Any) -> EmbeddingModel:
    return load_model(
        LoadContext(ref=str(folder), path=folder, options=EmbeddingsOptions(**options), progress=no_progress)
    )


def embedding_request(*inputs: Any, **more: Any) -> EmbeddingRequest:
    return EmbeddingRequest(id="r", model="m", inputs=inputs, **more)


def vectors_of(events: list[Event]) -> Vectors:
    """The vectors (inputs, dimensions) in a request's events, in the order of the inputs."""
    rows: dict[int, Vectors] = {}
    for event in events:
        if isinstance(event, EmbeddingBatch):
            vectors = np.frombuffer(event.vectors, "<f4").reshape(len(event.indices), -1)
            rows.update(zip(event.indices, vectors, strict=True))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    return np.stack([rows[index] for index in range(len(rows))])


def embed(model: Model, *inputs: Any, **more: Any) -> Vectors:
    return vectors_of(run_together(model, [ScheduledRequest(embedding_request(*inputs, **more))])[0])


def write_tiny(folder: Path, kind: str, dtype: mx.Dtype = mx.float32, **config: Any) -> Path:
    """Write a random model of an architecture, with MiniLM's tokenizer, into the empty `folder`."""
    settings: dict[str, Any] = {"model_type": kind, **SMALL, **ARCHITECTURES[kind], **config}
    network_class, args_class, _, _ = _get_classes(settings)
    network = network_class(args_class.from_dict(settings))
    mx.random.seed(0)
    # Larger than usual initial weights, so that vectors of different texts differ clearly.
    weights = {
        name: (mx.random.normal(array.shape) * 0.3).astype(dtype) for name, array in tree_flatten(network.parameters())
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    (folder / "config.json").write_text(json.dumps(settings))
    for name in TOKENIZER_FILES:
        shutil.copy(minilm() / name, folder / name)
    return folder


def add_stages(folder: Path, pooling: Mapping[str, Any], *, normalize: bool = True) -> Path:
    """Write modules.json and the pooling configuration as sentence-transformers does."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    stages = [
        {"idx": number, "path": f"{number}_{kind}" if number else "", "type": f"sentence_transformers.models.{kind}"}
        for number, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(stages))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder

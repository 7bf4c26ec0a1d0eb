"""Writes a small random Whisper whose output is random but which decodes a window in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_whisper.whisper import ModelDimensions, Whisper

ENGLISH, MULTILINGUAL = 51864, 51865
STATE = 16
# Decoding generates a timestamp if all timestamps together are more likely than any text token. With a smaller standard
# deviation of the weights, nearly all tokens would be timestamps.
SPREAD = 1.0


def write_tiny_whisper(
    folder: Path, vocabulary: int = ENGLISH, seed: int = 2, spread: float = SPREAD, tokens: int = 8
) -> Path:
    """Write the model into `folder`; it generates at most `tokens` tokens per window.

    `spread` is the standard deviation of the weights.
    """
    # No encoder layers: attention over 1,500 positions would take most of the time.
    sizes = {
        **{"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": STATE, "n_audio_head": 2, "n_audio_layer": 0},
        **{"n_vocab": vocabulary, "n_text_ctx": 2 * tokens, "n_text_state": STATE, "n_text_head": 2, "n_text_layer": 2},
    }
    network = Whisper(ModelDimensions(**sizes), mx.float32)
    mx.random.seed(seed)
    heads = network.alignment_heads
    network.update(tree_map(lambda weight: mx.random.normal(weight.shape) * spread, network.parameters()))
    weights = dict(tree_flatten(network.parameters())) | {"alignment_heads": heads}
    mx.save_safetensors(str(folder / "weights.safetensors"), weights)
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", **sizes}))
    return folder

"""Writes a random FLUX.2 klein of a few megabytes with SmolLM2's tokenizer, in the format of mflux-save.

mflux configures the sizes of the transformer and of the text encoder, and hard-codes those of the VAE; but its layers
adopt the shapes of the weights that they load.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mflux.models.common.tokenizer import TokenizerLoader
from mflux.models.flux2.model.flux2_text_encoder.qwen3_text_encoder import Qwen3TextEncoder
from mflux.models.flux2.model.flux2_transformer.transformer import Flux2Transformer
from mflux.models.flux2.model.flux2_vae.encoder.encoder import Flux2Encoder
from mflux.models.flux2.model.flux2_vae.vae import Flux2VAE
from mflux.models.flux2.variants import Flux2Klein
from mflux.models.flux2.weights.flux2_weight_definition import Flux2KleinWeightDefinition
from mlx import nn
from mlx.utils import tree_map
from mlx_host_demo.smollm2 import read_metadata, write_tokenizer

from tests.support.tiny_llama import VOCABULARY, smollm2_gguf

# The transformer is conditioned on the hidden states of three layers, the last of which is layer 27.
TEXT_ENCODER: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "intermediate_size": 64,
    "num_hidden_layers": 27,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}
WIDTH = 64
TRANSFORMER: Mapping[str, Any] = {
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": WIDTH,
    "num_attention_heads": 1,
    "axes_dims_rope": [16, 16, 16, 16],
}
# A quarter of the published sizes. They must differ where those differ, and be multiples of 32 (normalization groups)
# or, where the weights are quantized, 64.
VAE_CHANNELS = (32, 64, 128, 128)


def write_tiny_flux(folder: Path, *, text_width: int = 16, seed: int = 0) -> Path:
    """Write a float32 checkpoint into `folder`, with config.json files like those of the published checkpoints.

    Quantization needs a `text_width` of 64, which is slower without a fast BLAS.
    """
    mx.random.seed(seed)
    text_encoder = {**TEXT_ENCODER, "hidden_size": text_width, "head_dim": text_width}
    transformer = {**TRANSFORMER, "joint_attention_dim": 3 * text_width}
    model = Flux2Klein.__new__(Flux2Klein)
    nn.Module.__init__(model)
    model.bits = None
    model.vae = Flux2VAE(decoder_block_out_channels=VAE_CHANNELS)
    model.vae.encoder = Flux2Encoder(block_out_channels=VAE_CHANNELS)
    model.transformer = Flux2Transformer(**transformer)
    # With the initial weights, the prompt and the input images would have almost no influence on the output.
    model.transformer.update(tree_map(lambda weight: 2 * weight, model.transformer.parameters()))
    model.text_encoder = Qwen3TextEncoder(**text_encoder)
    (folder / "tokenizer").mkdir(parents=True)
    write_tokenizer(read_metadata(smollm2_gguf()), folder / "tokenizer")
    model.tokenizers = TokenizerLoader.load_all(Flux2KleinWeightDefinition.get_tokenizers(), str(folder))
    model.save_model(str(folder))
    (folder / "transformer" / "config.json").write_text(json.dumps(transformer))
    (folder / "text_encoder" / "config.json").write_text(json.dumps(text_encoder))
    return folder


def write_tiny_lora(file: Path, *, seed: int = 0) -> Path:
    """Write a LoRA of rank 2 for one projection of the transformer into `file`."""
    mx.random.seed(seed)
    name = "transformer.transformer_blocks.0.attn.to_q"
    shapes = {f"{name}.lora_A.weight": (2, WIDTH), f"{name}.lora_B.weight": (WIDTH, 2)}
    mx.save_safetensors(str(file), {key: mx.random.normal(shape) for key, shape in shapes.items()})
    return file

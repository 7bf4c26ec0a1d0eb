"""Tiny random models for images: SigLIP with MiniLM's tokenizer, Qwen3-VL with SmolLM2's."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_embeddings.utils import _get_classes
from mlx_host_demo.smollm2 import read_metadata, write_tokenizer
from PIL import Image
from tokenizers import AddedToken, Tokenizer

from tests.plugins.embeddings.driver import TOKENIZER_FILES, minilm
from tests.support.tiny_llama import smollm2_gguf

VISION_TOKENS = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def image_url(colour: str, size: tuple[int, int] = (70, 50), kind: str = "PNG") -> str:
    """The data URL of an image of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def write_tiny_siglip(folder: Path) -> Path:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {
        "model_type": "siglip",
        "text_config": {**small, "vocab_size": 30522, "max_position_embeddings": 16},
        "vision_config": {**small, "image_size": 32, "patch_size": 8},
    }
    _write_network(folder, config)
    for name in TOKENIZER_FILES:
        shutil.copy(minilm() / name, folder / name)
    size = {"height": 32, "width": 32}
    _write_json(folder / "preprocessor_config.json", {"image_processor_type": "SiglipImageProcessor", "size": size})
    return folder


def write_tiny_qwen3_vl(folder: Path) -> Path:
    write_tokenizer(read_metadata(smollm2_gguf()), folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in VISION_TOKENS.values()])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    _write_json(folder / "tokenizer_config.json", {**settings, "chat_template": TEMPLATE, "pad_token": "<|endoftext|>"})
    text = {
        **{"model_type": "qwen3_vl_text", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": tokenizer.get_vocab_size()},
        **{"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 128, "tie_word_embeddings": True},
        "rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1]},
    }
    vision = {
        **{"model_type": "qwen3_vl", "depth": 2, "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32},
        **{"num_heads": 4, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3},
        **{"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
    }
    tokens = {name: tokenizer.token_to_id(token) for name, token in VISION_TOKENS.items()}
    _write_network(folder, {"model_type": "qwen3_vl", **tokens, "text_config": text, "vision_config": vision})
    _write_json(
        folder / "preprocessor_config.json",
        {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 16, "merge_size": 2, "temporal_patch_size": 2},
    )
    return folder


def _write_network(folder: Path, config: dict[str, Any]) -> None:
    # A copy, because building the network modifies the configuration.
    copied = json.loads(json.dumps(config))
    network_class, args_class, text_class, vision_class = _get_classes(copied)
    args = args_class.from_dict(copied)
    if config["model_type"] == "siglip":
        args.text_config, args.vision_config = text_class(**args.text_config), vision_class(**args.vision_config)
    mx.random.seed(0)
    parameters = tree_flatten(network_class(args).parameters())
    mx.save_safetensors(
        str(folder / "model.safetensors"), {name: mx.random.normal(array.shape) * 0.3 for name, array in parameters}
    )
    _write_json(folder / "config.json", config)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))

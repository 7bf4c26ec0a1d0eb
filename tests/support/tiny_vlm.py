"""Small vision (Qwen, GLM, PaliGemma) and audio (Gemma) models with random weights and SmolLM2's tokenizer."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten
from mlx_host_demo.smollm2 import read_metadata, write_tokenizer
from mlx_vlm.models import gemma3n, gemma4, glm4v, paligemma, qwen2_vl, qwen3_vl

from tests.support.tiny_llama import END_OF_TURN, VOCABULARY, smollm2_gguf

CONTEXT_LENGTH = 2048
PATCH = 14

QWEN2_VL_MEDIA = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
GEMMA4_MEDIA = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "audio_token": "<audio_soft_token>",
    "boa_token": "<start_of_audio>",
    "eoa_token": "<end_of_audio>",
    "video_token": "<|video|>",
}
GEMMA3N_MEDIA = {name: symbol for name, symbol in GEMMA4_MEDIA.items() if name != "video_token"}

TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{% if part.type == 'image' %}IMAGE{% elif part.type == 'audio' %}AUDIO{% else %}{{ part.text }}{% endif %}
{%- endfor %}{% endif %}<|im_end|>
{% endfor -%}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def write_tiny_qwen2_vl(folder: Path, *, seed: int = 0, context_length: int = CONTEXT_LENGTH) -> Path:
    """Write a Qwen2-VL into `folder` and return the folder; the smallest image, 56 x 56 pixels, is four tokens."""
    ids = {symbol: VOCABULARY + number for number, symbol in enumerate(QWEN2_VL_MEDIA)}
    config = {
        "model_type": "qwen2_vl",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY + len(QWEN2_VL_MEDIA),
        "max_position_embeddings": context_length,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": END_OF_TURN,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_config": {
            "model_type": "qwen2_vl",
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 64,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": PATCH,
            "spatial_patch_size": PATCH,
        },
    }
    network = qwen2_vl.Model(_config(qwen2_vl, config))
    _write(folder, network, config, seed)
    return _write_qwen_processor(folder)


def write_tiny_qwen3_vl(folder: Path, *, seed: int = 0) -> Path:
    """Write a Qwen3-VL into `folder` and return the folder; image features are also added in its second layer."""
    ids = {symbol: VOCABULARY + number for number, symbol in enumerate(QWEN2_VL_MEDIA)}
    config = {
        "model_type": "qwen3_vl",
        "vocab_size": VOCABULARY + len(QWEN2_VL_MEDIA),
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": END_OF_TURN,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "text_config": {
            "model_type": "qwen3_vl_text",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "rms_norm_eps": 1e-6,
            "vocab_size": VOCABULARY + len(QWEN2_VL_MEDIA),
            "max_position_embeddings": CONTEXT_LENGTH,
            "rope_theta": 10000.0,
            "rope_scaling": {"type": "default", "mrope_section": [2, 3, 3]},
            "tie_word_embeddings": True,
        },
        "vision_config": {
            "model_type": "qwen3_vl",
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "out_hidden_size": 64,
            "num_heads": 2,
            "patch_size": PATCH,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        },
    }
    network = qwen3_vl.Model(_config(qwen3_vl, config))
    _write(folder, network, config, seed)
    return _write_qwen_processor(folder)


def _write_qwen_processor(folder: Path) -> Path:
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "min_pixels": 56 * 56,
        "max_pixels": 280 * 280,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    _json(folder / "preprocessor_config.json", processor)
    template = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>").replace("AUDIO", "")
    _add_tokens(folder, QWEN2_VL_MEDIA, {"chat_template": template})
    return folder


def write_tiny_glm4v(folder: Path, *, seed: int = 0) -> Path:
    """Write a GLM-4V into `folder` and return the folder; its network stores the positions of its last prompt."""
    start, end, image, video = range(VOCABULARY, VOCABULARY + 4)
    config = {
        "model_type": "glm4v",
        "vocab_size": VOCABULARY + 4,
        "hidden_size": 64,
        "bos_token_id": 1,
        "eos_token_id": [END_OF_TURN],
        "image_token_id": image,
        "image_token_index": image,
        "video_token_id": video,
        "video_token_index": video,
        "vision_start_token_id": start,
        "vision_end_token_id": end,
        "text_config": {
            "model_type": "glm4v_text",
            "vocab_size": VOCABULARY + 4,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "eos_token_id": [END_OF_TURN],
            "max_position_embeddings": CONTEXT_LENGTH,
            "rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1]},
        },
        "vision_config": {
            "model_type": "glm4v",
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": PATCH,
            "out_hidden_size": 64,
        },
    }
    _write(folder, glm4v.Model(_config(glm4v, config)), config, seed)
    processor = {
        "image_processor_type": "Glm4vImageProcessor",
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "size": {"shortest_edge": 56 * 56, "longest_edge": 280 * 280},
    }
    _json(folder / "preprocessor_config.json", processor)
    template = TEMPLATE.replace("IMAGE", "<|begin_of_image|><|image|><|end_of_image|>").replace("AUDIO", "")
    symbols = ("<|begin_of_image|>", "<|end_of_image|>", "<|image|>", "<|video|>")
    _add_tokens(folder, symbols, {"chat_template": template})
    return folder


def write_tiny_paligemma(folder: Path, *, seed: int = 0) -> Path:
    """Write a PaliGemma into `folder` and return the folder; it prefills whole prompts, its template is text-only."""
    image, size = VOCABULARY, 56
    config = {
        "model_type": "paligemma",
        "vocab_size": VOCABULARY + 1,
        "hidden_size": 64,
        "bos_token_id": 1,
        "eos_token_id": [END_OF_TURN],
        "image_token_index": image,
        "text_config": {
            "model_type": "gemma2",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "vocab_size": VOCABULARY + 1,
            "max_position_embeddings": CONTEXT_LENGTH,
            "final_logit_softcapping": 30.0,
            "attn_logit_softcapping": 50.0,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "num_hidden_layers": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "image_size": size,
            "patch_size": PATCH,
            "projection_dim": 64,
        },
    }
    _write(folder, paligemma.Model(_config(paligemma, config)), config, seed)
    processor = {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": size, "width": size},
        "image_seq_length": (size // PATCH) ** 2,
    }
    _json(folder / "preprocessor_config.json", processor)
    template = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    _add_tokens(folder, ("<image>",), {"chat_template": template})
    return folder


def write_tiny_gemma4(folder: Path, *, seed: int = 0, audio: bool = True) -> Path:
    """Write a Gemma 4 into `folder` and return the folder: sliding and full attention, vision, and audio if `audio`."""
    ids = {name: VOCABULARY + number for number, name in enumerate(GEMMA4_MEDIA)}
    config: dict[str, Any] = {
        "model_type": "gemma4",
        "vocab_size": VOCABULARY + len(ids),
        "hidden_size": 64,
        "bos_token_id": 1,
        "eos_token_id": END_OF_TURN,
        "tie_word_embeddings": True,
        "image_token_id": ids["image_token"],
        "audio_token_id": ids["audio_token"],
        "video_token_id": ids["video_token"],
        "boi_token_id": ids["boi_token"],
        "eoi_token_id": ids["eoi_token"],
        "boa_token_id": ids["boa_token"],
        "eoa_token_id": ids["eoa_token"],
        "text_config": {
            "model_type": "gemma4_text",
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "head_dim": 16,
            "global_head_dim": 16,
            "num_key_value_heads": 2,
            "num_kv_shared_layers": 1,
            "hidden_size_per_layer_input": 8,
            "vocab_size": VOCABULARY + len(ids),
            "vocab_size_per_layer_input": VOCABULARY + len(ids),
            "sliding_window": 64,
            "max_position_embeddings": CONTEXT_LENGTH,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            "use_bidirectional_attention": "vision",
        },
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "global_head_dim": 16,
            "patch_size": 16,
            "position_embedding_size": 64,
            "pooling_kernel_size": 2,
            "default_output_length": 70,
        },
    }
    if audio:
        config["audio_config"] = {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "subsampling_conv_channels": [8, 4],
            "output_proj_dims": 32,
            "use_clipped_linears": False,
        }
    network = gemma4.Model(_config(gemma4, config))
    _write(folder, network, config, seed)
    processor = {
        "processor_class": "Gemma4Processor",
        "image_processor": {"patch_size": 16, "max_soft_tokens": 70, "pooling_kernel_size": 2},
        "image_seq_length": 70,
        "audio_seq_length": 750,
        **({"feature_extractor": {"feature_size": 128, "sampling_rate": 16000}} if audio else {}),
    }
    _json(folder / "processor_config.json", processor)
    template = TEMPLATE.replace("IMAGE", GEMMA4_MEDIA["image_token"]).replace("AUDIO", GEMMA4_MEDIA["audio_token"])
    named = {**GEMMA4_MEDIA, "chat_template": template, "extra_special_tokens": GEMMA4_MEDIA}
    _add_tokens(folder, tuple(GEMMA4_MEDIA.values()), named)
    return folder


def write_tiny_gemma3n(folder: Path, *, seed: int = 0) -> Path:
    """Write a Gemma 3n into `folder` and return the folder: audio, and a vision tower of zeros.

    mlx-vlm fixes the size of the vision tower, 294 million parameters; here they are zeros in a sparse file. Each audio
    clip is 188 tokens. Layers share caches, and each of them has embeddings of the tokens.
    """
    ids = {name: VOCABULARY + number for number, name in enumerate(GEMMA3N_MEDIA)}
    size = VOCABULARY + len(ids)
    config = {
        "model_type": "gemma3n",
        "vocab_size": size,
        "hidden_size": 64,
        "eos_token_id": [END_OF_TURN],
        "image_token_id": ids["image_token"],
        "image_token_index": ids["image_token"],
        "audio_token_id": ids["audio_token"],
        "text_config": {
            "model_type": "gemma3n_text",
            "hidden_size": 64,
            "num_hidden_layers": 4,
            "intermediate_size": [128] * 4,
            "num_attention_heads": 4,
            "head_dim": 16,
            "num_key_value_heads": 2,
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size": size,
            "vocab_size_per_layer_input": VOCABULARY,
            "laurel_rank": 8,
            "altup_num_inputs": 2,
            "sliding_window": 64,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "max_position_embeddings": CONTEXT_LENGTH,
        },
        "vision_config": {"model_type": "gemma3n_vision", "vocab_offset": ids["image_token"], "vocab_size": 3},
        "audio_config": {
            "input_feat_size": 128,
            "hidden_size": 32,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 1,
            "sscp_conv_channel_size": [8, 4],
            "vocab_offset": ids["audio_token"],
            "vocab_size": 3,
        },
    }
    _write(folder, gemma3n.Model(_config(gemma3n, config)), config, seed, spread=1.0, zero="vision_tower.")
    processor = {
        "feature_extractor_type": "Gemma3nAudioFeatureExtractor",
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 768, "width": 768},
    }
    _json(folder / "preprocessor_config.json", processor)
    template = TEMPLATE.replace("IMAGE", GEMMA3N_MEDIA["image_token"]).replace("AUDIO", GEMMA3N_MEDIA["audio_token"])
    named = {**GEMMA3N_MEDIA, "chat_template": template, "extra_special_tokens": GEMMA3N_MEDIA}
    _add_tokens(folder, tuple(GEMMA3N_MEDIA.values()), named)
    return folder


def _config(module: Any, config: Mapping[str, Any]) -> Any:
    loaded = module.ModelConfig.from_dict(dict(config))
    for name in ("text_config", "vision_config", "audio_config"):
        part = getattr(loaded, name, None)
        if isinstance(part, Mapping):
            kind = {"text_config": "TextConfig", "vision_config": "VisionConfig", "audio_config": "AudioConfig"}[name]
            setattr(loaded, name, getattr(module, kind).from_dict(dict(part)))
    return loaded


def _write(
    folder: Path,
    network: nn.Module,
    config: Mapping[str, Any],
    seed: int,
    *,
    spread: float = 0.3,
    zero: str | None = None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mx.random.seed(seed)
    # Larger than usual initial weights: with nearly equal logits, rounding would decide the output.
    shapes = {name: array.shape for name, array in tree_flatten(network.parameters())}
    zeros = {} if zero is None else {name: shape for name, shape in shapes.items() if name.startswith(zero)}
    if zeros:
        _save_zeros(folder / "zeros.safetensors", zeros)
    weights = {name: mx.random.normal(shape) * spread for name, shape in shapes.items() if name not in zeros}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    _json(folder / "config.json", config)
    _json(folder / "generation_config.json", {"eos_token_id": END_OF_TURN})
    write_tokenizer(read_metadata(smollm2_gguf()), folder)


def _save_zeros(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write a safetensors file of bfloat16 zeros, sparse after its header."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps({"__metadata__": {"format": "mlx"}, **header}).encode()
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(out.tell() + end)


def _add_tokens(folder: Path, symbols: Sequence[str], settings: Mapping[str, Any]) -> None:
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    flags = {"special": True, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
    tokenizer["added_tokens"] += [{"id": VOCABULARY + n, "content": s, **flags} for n, s in enumerate(symbols)]
    _json(file, tokenizer)
    file = folder / "tokenizer_config.json"
    _json(file, {**json.loads(file.read_text()), **settings})


def _json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")

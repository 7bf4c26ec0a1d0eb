"""Converts SmolLM2 from GGUF to a folder for mlx-lm: safetensors, config and tokenizer.

Source of the metadata keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
from mlx_host.backend import LoadProgress
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

Precision = Literal["float32", "4bit"]
Metadata = Mapping[str, Any]

CONVERTER_VERSION = 1
"""Increase with every change of the converted files, so that cached folders are converted again."""

GROUP_SIZE = 32
CONTROL_TOKEN = 3
SPECIAL_TOKENS = {"bos": "bos", "eos": "eos", "pad": "padding"}
EMBEDDING = "model.embed_tokens"
OUTSIDE_LAYERS = {"token_embd": EMBEDDING, "output_norm": "model.norm"}
IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def native_precision() -> Precision:
    """Return the fastest precision on this machine; on a CPU, MLX has no fast quantized or 16-bit matmul."""
    return "float32" if mx.default_device().type == mx.DeviceType.cpu else "4bit"


def variant() -> str:
    return f"v{CONVERTER_VERSION}-{native_precision()}"


def convert(weights: Path, folder: Path, progress: LoadProgress) -> None:
    convert_to(native_precision(), weights, folder, progress)


def convert_to(precision: Precision, weights: Path, folder: Path, progress: LoadProgress) -> None:
    """Convert the GGUF file `weights` into the empty `folder`; progress counts modules."""
    tensors, metadata = _read(weights)
    arrays = _convert_tensors(tensors, precision, progress)
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "mlx"})
    write_config(metadata, folder, precision)
    write_tokenizer(metadata, folder)


def read_metadata(weights: Path) -> Metadata:
    """Return the metadata of a GGUF file: arrays, strings and lists of strings."""
    return _read(weights)[1]


def _read(weights: Path) -> tuple[Mapping[str, Any], Metadata]:
    contents: Any = mx.load(str(weights), return_metadata=True)
    tensors, metadata = contents
    return tensors, metadata


def module_name(gguf: str) -> str:
    """Return the name of a GGUF module, such as `blk.7.attn_q`, in mlx-lm's llama."""
    if gguf in OUTSIDE_LAYERS:
        return OUTSIDE_LAYERS[gguf]
    _, layer, name = gguf.split(".")
    return f"model.layers.{layer}.{IN_LAYER[name]}"


def _convert_tensors(tensors: Mapping[str, Any], precision: Precision, progress: LoadProgress) -> dict[str, Any]:
    modules = sorted(name.removesuffix(".weight") for name in tensors if name.endswith(".weight"))
    converted: dict[str, Any] = {}
    for done, gguf in enumerate(modules):
        progress("convert", done, len(modules), gguf)
        module = module_name(gguf)
        names = {part: f"{gguf}.{part}" for part in ("weight", "scales", "biases")}
        parts = {part: tensors[name] for part, name in names.items() if name in tensors}
        arrays = _convert_module(parts, _bits(module), precision)
        mx.eval(arrays)
        converted |= {f"{module}.{part}": array for part, array in arrays.items()}
    progress("convert", len(modules), len(modules), "writing")
    return converted


def _convert_module(parts: Mapping[str, Any], bits: int, precision: Precision) -> dict[str, Any]:
    # Scales and norms determine the data type of the activations; with float32, all machines have the same output.
    parts = {part: array if array.dtype == mx.uint32 else array.astype(mx.float32) for part, array in parts.items()}
    if precision == "4bit" or "scales" not in parts:
        return parts
    weight = mx.dequantize(parts["weight"], parts["scales"], parts["biases"], group_size=GROUP_SIZE, bits=bits)
    return {"weight": weight}


def _bits(module: str) -> int:
    return 8 if module == EMBEDDING else 4


def write_config(metadata: Metadata, folder: Path, precision: Precision) -> None:
    """Write `config.json` and `generation_config.json`."""
    special = {f"{name}_token_id": _token_id(metadata, gguf) for name, gguf in SPECIAL_TOKENS.items()}
    heads = metadata["llama.attention.head_count"].item()
    hidden = metadata["llama.embedding_length"].item()
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": metadata["llama.block_count"].item(),
        "intermediate_size": metadata["llama.feed_forward_length"].item(),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata["llama.attention.head_count_kv"].item(),
        "head_dim": hidden // heads,
        "rms_norm_eps": metadata["llama.attention.layer_norm_rms_epsilon"].item(),
        "vocab_size": metadata["llama.vocab_size"].item(),
        "max_position_embeddings": metadata["llama.context_length"].item(),
        "rope_theta": metadata["llama.rope.freq_base"].item(),
        # In GGUF, the rows of q and k are permuted so that rotary pairs are adjacent.
        "rope_traditional": True,
        "tie_word_embeddings": True,
        **special,
    }
    if precision == "4bit":
        group = {"group_size": GROUP_SIZE, "bits": 4}
        config["quantization"] = {**group, EMBEDDING: {**group, "bits": _bits(EMBEDDING)}}
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", special)


def _token_id(metadata: Metadata, gguf: str) -> int:
    return int(metadata[f"tokenizer.ggml.{gguf}_token_id"].item())


def write_tokenizer(metadata: Metadata, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`: byte-level BPE with individual digits, ChatML template."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata["tokenizer.ggml.token_type"].tolist()
    merges = [(left, right) for left, right in (merge.split(" ") for merge in metadata["tokenizer.ggml.merges"])]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = ByteLevelDecoder()
    control = [token for token, token_type in zip(tokens, types, strict=True) if token_type == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {**SPECIAL_TOKENS, "unk": "unknown"}
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": metadata["llama.context_length"].item(),
            "clean_up_tokenization_spaces": False,
            "chat_template": metadata["tokenizer.chat_template"],
            **{f"{name}_token": tokens[_token_id(metadata, gguf)] for name, gguf in special.items()},
        },
    )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

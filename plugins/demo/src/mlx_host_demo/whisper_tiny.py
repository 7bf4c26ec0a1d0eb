"""Converts Whisper from CTranslate2's format to a folder for mlx-whisper: config and safetensors.

A CTranslate2 file, all numbers little-endian and of four bytes except where noted:

    file     = format version, spec name, spec revision, variable count, variable*, aliases
    variable = name, rank (1 byte), dimension*, data type (1 byte), size in bytes, data
    string   = length (2 bytes), UTF-8 bytes with a terminating zero

Source: https://github.com/OpenNMT/CTranslate2, `python/ctranslate2/specs/model_spec.py`.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import mlx.core as mx
import numpy as np
from mlx_host.backend import LoadProgress
from mlx_host.errors import LoadError

Array = np.ndarray[Any, Any]

CONVERTER_VERSION = 1
"""Increase with every change of the converted files, so that cached folders are converted again."""

FORMAT_VERSION = 6
SPEC_NAME = "WhisperSpec"
TYPES = ("<f4", "i1", "<i2", "<i4", "<f2")

OUTSIDE_LAYERS = {
    "encoder/conv1": "encoder.conv1",
    "encoder/conv2": "encoder.conv2",
    "encoder/layer_norm": "encoder.ln_post",
    "decoder/embeddings": "decoder.token_embedding",
    "decoder/layer_norm": "decoder.ln",
}
IN_LAYER = {
    "self_attention/layer_norm": ("attn_ln",),
    "self_attention/linear_0": ("attn.query", "attn.key", "attn.value"),
    "self_attention/linear_1": ("attn.out",),
    "attention/layer_norm": ("cross_attn_ln",),
    "attention/linear_0": ("cross_attn.query",),
    "attention/linear_1": ("cross_attn.key", "cross_attn.value"),
    "attention/linear_2": ("cross_attn.out",),
    "ffn/layer_norm": ("mlp_ln",),
    "ffn/linear_0": ("mlp1",),
    "ffn/linear_1": ("mlp2",),
}
PARAMETERS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
POSITIONS = "decoder/position_encodings/encodings"
_LAYER = re.compile(r"(encoder|decoder)/layer_(\d+)/(.+)")


def variant() -> str:
    return f"v{CONVERTER_VERSION}-{np.dtype(native_precision())}"


def native_precision() -> type[np.floating[Any]]:
    """Return the fastest precision on this machine; on a CPU, MLX has no fast 16-bit matmul."""
    return np.float32 if mx.default_device().type == mx.DeviceType.cpu else np.float16


def convert(weights: Path, folder: Path, progress: LoadProgress) -> None:
    """Convert `model.bin` and the `config.json` next to it into the empty `folder`; progress counts variables."""
    variables = dict(read(weights))
    config = json.loads((weights.parent / "config.json").read_text(encoding="utf-8"))
    arrays: dict[str, mx.array] = {}
    for done, (name, variable) in enumerate(variables.items()):
        progress("convert", done, len(variables), name)
        if variable.ndim:
            parts = rename(name, variable)
            arrays |= {part: mx.array(array.astype(native_precision())) for part, array in parts.items()}
    # The attention heads that are aligned with the audio, which mlx-whisper uses for word timestamps.
    arrays["alignment_heads"] = mx.array(config["alignment_heads"], mx.int32)
    progress("convert", len(variables), len(variables), "writing")
    mx.save_safetensors(str(folder / "weights.safetensors"), arrays, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(dimensions(variables), indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> Iterator[tuple[str, Array]]:
    """Yield the names and values of the variables in a CTranslate2 file. Raises LoadError for other files."""
    with path.open("rb") as file:
        (version,) = _numbers(file, "I")
        spec_name = _string(file) if version == FORMAT_VERSION else ""
        if spec_name != SPEC_NAME:
            raise LoadError(
                f"{str(path)!r} is not a {SPEC_NAME} in version {FORMAT_VERSION} of CTranslate2's format, the only one "
                "that this version of mlx-host-demo supports."
            )
        _, count = _numbers(file, "II")
        for _ in range(count):
            name = _string(file)
            (rank,) = _numbers(file, "B")
            shape = _numbers(file, f"{rank}I")
            type_code, size = _numbers(file, "BI")
            yield name, np.frombuffer(file.read(size), TYPES[type_code]).reshape(shape)


def _numbers(file: BinaryIO, layout: str) -> tuple[int, ...]:
    layout = f"<{layout}"
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _string(file: BinaryIO) -> str:
    (length,) = _numbers(file, "H")
    return file.read(length).rstrip(b"\0").decode()


def rename(name: str, variable: Array) -> dict[str, Array]:
    """Return a variable under its name in mlx-whisper; a variable of stacked weights is split.

    Raises LoadError for an unknown variable.
    """
    if name == POSITIONS:
        return {"decoder.positional_embedding": variable}
    module, _, parameter = name.rpartition("/")
    if module == "encoder/position_encodings":
        return {}  # Computed by mlx-whisper.
    parameter = PARAMETERS[parameter]
    if module in OUTSIDE_LAYERS:
        # Convolutions of MLX have the channels last.
        array = variable.transpose(0, 2, 1) if variable.ndim == 3 else variable
        return {f"{OUTSIDE_LAYERS[module]}.{parameter}": array}
    layer = _LAYER.fullmatch(module)
    if layer is None or layer[3] not in IN_LAYER:
        raise LoadError(f"Unknown variable {name!r}.")
    parts = IN_LAYER[layer[3]]
    return {
        f"{layer[1]}.blocks.{layer[2]}.{part}.{parameter}": array
        for part, array in zip(parts, np.split(variable, len(parts)), strict=True)
        # Whisper's key projections have no bias; CTranslate2 writes zeros.
        if not (part.endswith(".key") and parameter == "bias")
    }


def dimensions(variables: Mapping[str, Array]) -> dict[str, Any]:
    """Return the dimensions of the network for mlx-whisper's config.json."""
    audio_state, mels, _ = variables["encoder/conv1/weight"].shape
    vocabulary, text_state = variables["decoder/embeddings/weight"].shape
    return {
        "model_type": "whisper",
        "n_mels": mels,
        "n_audio_ctx": len(variables["encoder/position_encodings/encodings"]),
        "n_audio_state": audio_state,
        "n_audio_head": int(variables["encoder/num_heads"]),
        "n_audio_layer": _layers(variables, "encoder"),
        "n_vocab": vocabulary,
        "n_text_ctx": len(variables[POSITIONS]),
        "n_text_state": text_state,
        "n_text_head": int(variables["decoder/num_heads"]),
        "n_text_layer": _layers(variables, "decoder"),
    }


def _layers(variables: Mapping[str, Array], part: str) -> int:
    return len({match[2] for name in variables if (match := _LAYER.match(name)) and match[1] == part})

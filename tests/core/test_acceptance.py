"""Which backends accept a model folder: they look at config.json and the names of files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlx_host._cli import discover
from mlx_host._plugins.acceptance import accepting_backends, check_accepted
from mlx_host.backend import Backend, LoadContext, Model, Options
from mlx_host.errors import LoadError

BACKENDS = {name: discover().backend(name) for name in ("embeddings", "flux", "lm", "vlm", "whisper")}


def write(folder: Path, config: Mapping[str, Any] | None, *files: str) -> Path:
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()
    return folder


@pytest.mark.parametrize(
    ("config", "files", "backends"),
    [
        ({"model_type": "llama"}, (), ["lm", "vlm"]),
        # Under another name in mlx-lm's and mlx-vlm's tables.
        ({"model_type": "kimi_k2"}, (), ["lm", "vlm"]),
        ({"model_type": "lfm2-vl"}, (), ["lm", "vlm"]),
        ({"model_type": "qwen3"}, (), ["embeddings", "lm", "vlm"]),
        ({"model_type": "paligemma"}, (), ["vlm"]),
        ({"model_type": "bert"}, (), ["embeddings"]),
        ({"model_type": "xlm-roberta"}, (), ["embeddings"]),
        ({"n_mels": 80, "n_audio_ctx": 1500}, ("weights.npz",), ["whisper"]),
        ({"model_type": "whisper"}, (), []),
        ({"model_type": "perceptron"}, (), []),
        ({"model_type": ["llama"]}, (), []),
        ({"model_type": "perceptron", "model_file": "model.py"}, (), ["lm", "vlm"]),
        (None, ("transformer/0.safetensors", "vae/0.safetensors"), ["flux"]),
        (None, (), []),
    ],
    ids=str,
)
def test_backends_that_accept_a_folder(
    tmp_path: Path, config: Mapping[str, Any] | None, files: tuple[str, ...], backends: list[str]
) -> None:
    assert accepting_backends(BACKENDS, write(tmp_path, config, *files)) == backends


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_an_unreadable_config_is_a_reason(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, errors="surrogateescape")
    assert accepting_backends(BACKENDS, tmp_path) == []
    assert accepting_backends(BACKENDS, tmp_path / "config.json") == []


def load(context: LoadContext[Options]) -> Model:
    raise AssertionError("not loaded in this test")


def test_only_a_reason_rejects_a_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(path: Path) -> str | None:
        raise RuntimeError("what a mess")

    unknown = Backend("unknown", load, Options)
    faulty = Backend("faulty", load, Options, accepts=broken)
    sure = Backend("sure", load, Options, accepts=lambda path: None)
    picky = Backend("picky", load, Options, accepts=lambda path: "it is too small.")
    backends = {backend.name: backend for backend in (unknown, faulty, sure, picky)}
    for backend in (unknown, faulty, sure):
        check_accepted(backend, backends, "m", tmp_path)
    assert "what a mess" in caplog.text
    with pytest.raises(LoadError, match=r"'picky'.*'m'.*it is too small.*--backend sure\."):
        check_accepted(picky, backends, "m", tmp_path)

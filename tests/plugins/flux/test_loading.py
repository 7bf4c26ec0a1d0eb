"""Config detection, loading and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlx_host.backend import LoadContext, Model
from mlx_host.errors import InvalidRequestError, LoadError
from mlx_host.events import ImageCompleted
from mlx_host.requests import ImageGenerationRequest
from mlx_host.testing.model_contract import run_alone
from mlx_host_flux.configs import BY_NAME
from mlx_host_flux.mflux_api import ImagePipeline, _model_config, detect_config_name
from mlx_host_flux.model import load_model
from mlx_host_flux.options import FluxOptions

from tests.support.command import mlx_host
from tests.support.hub import running_hub
from tests.support.tiny_flux import write_tiny_flux


def load(folder: Path, **options: Any) -> Model:
    return load_model(LoadContext(str(folder), folder, FluxOptions(**options), lambda *_: None))


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({"model_name": "z-image-turbo", "base_model": None}, "z-image-turbo"),
        ({"model_name": "me/my-own", "base_model": "flux2-klein-9b"}, "flux2-klein-9b"),
    ],
)
def test_the_config_is_detected_from_the_metadata_of_mflux_save(
    tmp_path: Path, metadata: dict[str, Any], key: str
) -> None:
    (tmp_path / "mflux_model.json").write_text(json.dumps(metadata))
    assert detect_config_name(tmp_path, "dev") == key


def test_the_config_is_detected_from_the_name_of_the_model(tmp_path: Path) -> None:
    assert detect_config_name(tmp_path, "someone/FLUX.1-schnell-4bit") == "schnell"
    assert detect_config_name(tmp_path, "black-forest-labs/FLUX.2-klein-9B") == "flux2-klein-9b"
    assert detect_config_name(tmp_path, "my-model") is None
    (tmp_path / "mflux_model.json").write_text("broken")
    assert detect_config_name(tmp_path, "qwen-image-q8") == "qwen-image"


def test_an_unrecognized_folder_requires_a_config_name(tmp_path: Path) -> None:
    folder = tmp_path / "mystery"
    folder.mkdir()
    with pytest.raises(LoadError, match=r"'.*mystery'.*--config-name"):
        load(folder)


def test_an_unsupported_model_is_rejected_with_the_available_configs(tmp_path: Path) -> None:
    (tmp_path / "mflux_model.json").write_text('{"model_name": "seedvr2-3b", "base_model": null}')
    with pytest.raises(LoadError, match=r"'seedvr2-3b'.*flux-schnell, "):
        load(tmp_path)


def test_a_folder_without_weights_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="'flux2-klein-4b'"):
        load(tmp_path, config_name="flux2-klein-4b")


def test_layer_sizes_are_read_from_the_folder(tmp_path: Path) -> None:
    config = BY_NAME["flux2-klein-9b"]
    pipeline = config.generate
    assert pipeline is not None
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text('{"num_layers": 2, "_class_name": "x", "rope_theta": null}')
    local = _model_config(config, pipeline, tmp_path)
    published = _model_config(config, pipeline, None)
    assert local.transformer_overrides == {**published.transformer_overrides, "num_layers": 2}
    assert local.text_encoder_overrides == published.text_encoder_overrides
    assert published.transformer_overrides["num_layers"] == 8


def test_weights_are_quantized_on_load(tmp_path: Path) -> None:
    folder = write_tiny_flux(tmp_path / "flux", text_width=64)
    request = ImageGenerationRequest(id="r", model="m", prompt="a cat", seed=1, size=(16, 16), steps=1)
    images = set()
    for bits in (16, 8, 4):
        model = load(folder, config_name="flux2-klein-4b", quantize=bits)
        (completed,) = (event for event in run_alone(model, request) if isinstance(event, ImageCompleted))
        images.add(completed.content)
        model.close()
    assert len(images) == 3


def unloaded_pipeline(name: str) -> ImagePipeline:
    """Return a pipeline without weights, for methods that do not use them."""
    pipeline = ImagePipeline.__new__(ImagePipeline)
    config = BY_NAME[name]
    spec = config.generate or config.edit
    assert spec is not None
    pipeline._spec = spec
    return pipeline


def test_captions_with_an_unsupported_structure_are_rejected() -> None:
    assert unloaded_pipeline("flux-dev").caption("{") == "{"
    assert unloaded_pipeline("fibo").caption('{"a": 1}') == '{"a": 1}'
    assert unloaded_pipeline("fibo2").caption("a cat") == "a cat"
    with pytest.raises(InvalidRequestError, match="prompt: "):
        unloaded_pipeline("fibo2").caption('{"short_description": 5}')
    with pytest.raises(InvalidRequestError, match="edit_instruction"):
        unloaded_pipeline("fibo-edit").caption('{"a": 1}')


def test_a_gated_model_is_reported(tmp_path: Path) -> None:
    with running_hub({"black-forest-labs/FLUX.1-dev": {}}) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        args = ["run", "--backend", "flux", "--config-name", "flux-dev", "--port", "0"]
        done = mlx_host(*args, env=env)
    assert done.returncode == 1
    assert "'black-forest-labs/FLUX.1-dev' is gated." in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert hub.requests


def test_the_process_exits_cleanly_after_the_thread(tmp_path: Path) -> None:
    # MLX aborts the process at exit if a thread has ended without clearing its streams.
    script = (
        "import mlx.core as mx; from mlx_host_flux.mlx_thread import MlxThread\n"
        "from mlx_host_flux.mflux_api import end_streams\n"
        "thread = MlxThread(); twice = mx.compile(lambda x: mx.exp(x) * 2)\n"
        "thread.run(lambda: mx.eval(twice(mx.ones(3)))); thread.run(end_streams); thread.close()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""Finding out what a folder holds, and saying so when it cannot be loaded."""

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
from mlx_host_flux.mflux_api import Painter, _model_config, key_of
from mlx_host_flux.model import load_model
from mlx_host_flux.options import FluxOptions

from tests.support.command import mlx_host
from tests.support.hub import running_hub
from tests.support.tiny_flux import write_tiny_flux


def load(folder: Path, **options: Any) -> Model:
    said: list[tuple[Any, ...]] = []
    return load_model(LoadContext(str(folder), folder, FluxOptions(**options), lambda *progress: said.append(progress)))


@pytest.mark.parametrize(
    ("saved", "key"),
    [
        ({"model_name": "z-image-turbo", "base_model": None}, "z-image-turbo"),
        ({"model_name": "me/my-own", "base_model": "flux2-klein-9b"}, "flux2-klein-9b"),
    ],
)
def test_what_mflux_wrote_beside_a_model_tells_what_it_is(tmp_path: Path, saved: dict[str, Any], key: str) -> None:
    (tmp_path / "mflux_model.json").write_text(json.dumps(saved))
    assert key_of(tmp_path, "dev") == key


def test_else_its_name_does(tmp_path: Path) -> None:
    assert key_of(tmp_path, "somebody/FLUX.1-schnell-4bit") == "schnell"
    assert key_of(tmp_path, "black-forest-labs/FLUX.2-klein-9B") == "flux2-klein-9b"
    assert key_of(tmp_path, "my-model") is None
    (tmp_path / "mflux_model.json").write_text("broken")
    assert key_of(tmp_path, "qwen-image-q8") == "qwen-image"


def test_a_folder_that_says_nothing_needs_a_config(tmp_path: Path) -> None:
    folder = tmp_path / "mystery"
    folder.mkdir()
    with pytest.raises(LoadError, match=r"What '.*mystery' is cannot be told from it; say it with --config-name"):
        load(folder)


def test_a_folder_of_a_model_that_is_not_served_is_named(tmp_path: Path) -> None:
    (tmp_path / "mflux_model.json").write_text('{"model_name": "seedvr2-3b", "base_model": null}')
    with pytest.raises(LoadError, match="there is no config 'seedvr2-3b'; there is: flux-schnell, "):
        load(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="mflux cannot load 'flux2-klein-4b' from the folder"):
        load(tmp_path, config_name="flux2-klein-4b")


def test_sizes_are_taken_from_the_folder(tmp_path: Path) -> None:
    config = BY_NAME["flux2-klein-9b"]
    pipeline = config.generate
    assert pipeline is not None
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text('{"num_layers": 2, "_class_name": "x", "rope_theta": null}')
    own = _model_config(config, pipeline, tmp_path)
    published = _model_config(config, pipeline, None)
    assert own.transformer_overrides == {**published.transformer_overrides, "num_layers": 2}
    assert own.text_encoder_overrides == published.text_encoder_overrides
    assert published.transformer_overrides["num_layers"] == 8


def test_weights_are_quantized_as_they_are_loaded(tmp_path: Path) -> None:
    folder = write_tiny_flux(tmp_path / "flux", text_width=64)
    request = ImageGenerationRequest(id="r", model="m", prompt="a cat", seed=1, size=(16, 16), steps=1)
    pictures = set()
    for bits in (16, 8, 4):
        model = load(folder, config_name="flux2-klein-4b", quantize=bits)
        (finished,) = (event for event in run_alone(model, request) if isinstance(event, ImageCompleted))
        pictures.add(finished.content)
        model.close()
    assert len(pictures) == 3


def painter_of(name: str) -> Painter:
    """A painter with no model, for what needs none."""
    painter = Painter.__new__(Painter)
    config = BY_NAME[name]
    pipeline = config.generate or config.edit
    assert pipeline is not None
    painter._pipeline = pipeline
    return painter


def test_captions_that_a_model_was_not_trained_on_are_refused() -> None:
    assert painter_of("flux-dev").caption("{") == "{"
    assert painter_of("fibo").caption('{"a": 1}') == '{"a": 1}'
    assert painter_of("fibo2").caption("a cat") == "a cat"
    with pytest.raises(InvalidRequestError, match="prompt: "):
        painter_of("fibo2").caption('{"short_description": 5}')
    with pytest.raises(InvalidRequestError, match="edit_instruction"):
        painter_of("fibo-edit").caption('{"a": 1}')


def test_a_published_model_is_fetched_by_mflux_and_may_be_gated(tmp_path: Path) -> None:
    with running_hub({"black-forest-labs/FLUX.1-dev": {}}) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        args = ["run", "--backend", "flux", "--config-name", "flux-dev", "--port", "0", "--no-log-file"]
        done = mlx_host(*args, env=env)
    assert done.returncode == 1
    said = "'black-forest-labs/FLUX.1-dev' is gated: accept its terms on its page, then set HF_TOKEN."
    assert f"Error: {said}\n" in done.stderr
    assert hub.requests


def test_a_process_ends_in_peace_after_its_model(tmp_path: Path) -> None:
    # MLX aborts a process that ends after one of its threads did, unless that thread cleared up.
    script = (
        "import mlx.core as mx; from mlx_host_flux.workbench import Workbench\n"
        "from mlx_host_flux.mflux_api import end_streams\n"
        "bench = Workbench(); twice = mx.compile(lambda x: mx.exp(x) * 2)\n"
        "bench.do(lambda: mx.eval(twice(mx.ones(3)))); bench.do(end_streams); bench.close()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

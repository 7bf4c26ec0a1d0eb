"""The options: what does not fit together is said before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlx_host._settings import merge_settings, option_names
from mlx_host.errors import UsageError
from mlx_host_flux.options import FluxOptions

from tests.support.command import complaint, mlx_host


def fault(**options: Any) -> str:
    """What is wrong with some options, as the command line says it."""
    with pytest.raises(UsageError) as error:
        merge_settings(option_names(FluxOptions), options)
    return str(error.value)


@pytest.fixture
def loras(tmp_path: Path) -> str:
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for file in files:
        file.touch()
    return ",".join(map(str, files))


def test_help_lists_the_options() -> None:
    text = mlx_host("run", "--backend", "flux", "--help").stdout
    for flag in ("--config-name", "--task", "--quantize", "--lora-paths", "--lora-scales", "--max-prompt-chars"):
        assert flag in text


def test_flags_take_lists_with_commas(loras: str) -> None:
    given = ("--lora-paths", loras, "--lora-scales", "0.8,0.6,0.4")
    said = complaint(mlx_host("run", "--backend", "flux", *given))
    assert said == "--lora-scales has 3 numbers for 2 files of --lora-paths; give one for each."


def test_an_unknown_config_is_named_with_those_there_are() -> None:
    said = fault(config_name="sdxl")
    assert said.startswith("there is no config 'sdxl'; there is: flux-schnell, flux-dev, flux-krea-dev, ")


def test_a_task_that_a_model_is_not_for_is_refused() -> None:
    said = fault(config_name="flux-dev", task="image-edit")
    assert said.startswith("'flux-dev' is not for task 'image-edit'; these are: flux-kontext-dev, ")


def test_a_lora_must_be_there() -> None:
    assert fault(lora_paths=["nowhere.safetensors"]) == "--lora-paths: there is no file 'nowhere.safetensors'."


def test_scales_must_be_numbers(loras: str) -> None:
    for scale in ("high", "nan", "inf"):
        assert "--lora-scales.1: " in fault(lora_paths=[loras], lora_scales=[f"0.8,{scale}"])


def test_a_model_without_loras_takes_none(loras: str) -> None:
    said = fault(config_name="fibo", lora_paths=[loras])
    assert said == "--lora-paths: mflux has no LoRA support for 'fibo'."


def test_lists_may_be_written_with_commas(loras: str) -> None:
    paths = [Path(path) for path in loras.split(",")]
    options = FluxOptions.model_validate({"lora_paths": [loras], "lora_scales": "0.8, 0.6"})
    assert (options.lora_paths, options.lora_scales) == (paths, [0.8, 0.6])
    assert FluxOptions.model_validate({"lora_paths": loras.split(","), "lora_scales": [0.8, 0.6]}) == options

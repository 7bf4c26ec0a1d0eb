"""Invalid options are reported before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlx_host._settings import merge_settings, option_names
from mlx_host.errors import UsageError
from mlx_host_flux.options import FluxOptions

from tests.support.command import mlx_host, usage_error_of


def option_error(**options: Any) -> str:
    """Return the error message of the command line for some options."""
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


def test_flags_accept_lists_separated_by_commas(loras: str) -> None:
    arguments = ("--lora-paths", loras, "--lora-scales", "0.8,0.6,0.4")
    message = usage_error_of(mlx_host("run", "--backend", "flux", *arguments))
    assert message.startswith("--lora-scales has 3 values for 2 files of --lora-paths")


def test_an_unknown_config_is_rejected_with_the_available_ones() -> None:
    message = option_error(config_name="sdxl")
    assert "'sdxl'" in message
    assert "flux-schnell, flux-dev, flux-krea-dev, " in message


def test_a_task_that_the_config_does_not_support_is_rejected() -> None:
    message = option_error(config_name="flux-dev", task="image-edit")
    assert all(value in message for value in ("'flux-dev'", "'image-edit'", ": flux-kontext-dev, "))


def test_a_missing_lora_file_is_rejected() -> None:
    assert "--lora-paths: file 'nowhere.safetensors'" in option_error(lora_paths=["nowhere.safetensors"])


def test_lora_scales_must_be_finite_numbers(loras: str) -> None:
    for scale in ("high", "nan", "inf"):
        assert "--lora-scales[1]: " in option_error(lora_paths=[loras], lora_scales=[f"0.8,{scale}"])


def test_loras_are_rejected_for_a_config_without_lora_support(loras: str) -> None:
    message = option_error(config_name="fibo", lora_paths=[loras])
    assert all(value in message for value in ("--lora-paths", "'fibo'"))


def test_lists_in_a_configuration_may_use_commas(loras: str) -> None:
    paths = [Path(path) for path in loras.split(",")]
    options = FluxOptions.model_validate({"lora_paths": [loras], "lora_scales": "0.8, 0.6"})
    assert (options.lora_paths, options.lora_scales) == (paths, [0.8, 0.6])
    assert FluxOptions.model_validate({"lora_paths": loras.split(","), "lora_scales": [0.8, 0.6]}) == options

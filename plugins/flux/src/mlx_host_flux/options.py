"""The options of the backend `flux`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from mlx_host.backend import Options
from pydantic import BeforeValidator, Field, FiniteFloat, model_validator

from mlx_host_flux import configs
from mlx_host_flux.configs import Config, Task


def _split(value: Any) -> Any:
    """Take `a,b` for two, as well as a list."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        return value
    parts: list[Any] = []
    for each in values:
        parts += [part.strip() for part in each.split(",")] if isinstance(each, str) else [each]
    return parts


class FluxOptions(Options):
    config_name: str | None = Field(
        None,
        description="What kind of model it is, such as flux-dev, z-image-turbo or flux2-klein-4b. By default "
        "flux-schnell, flux-kontext-dev for edits, or what a folder that mflux saved says of itself.",
    )
    task: Literal["image-generation", "image-edit"] | None = Field(
        None, description="Whether it makes pictures of text or edits pictures; needed only where a model can do both."
    )
    quantize: Literal[4, 8, 16] = Field(
        8, description="Bits of a weight; 16 leaves them as they are. A folder that was saved quantized stays so."
    )
    lora_paths: Annotated[list[Path], BeforeValidator(_split)] = Field(
        default=[], description="LoRA files to apply, several with commas between."
    )
    lora_scales: Annotated[list[FiniteFloat], BeforeValidator(_split)] = Field(
        default=[], description="How strongly each LoRA is applied, one number for each file; by default 1.0."
    )
    max_prompt_chars: int = Field(1000, ge=1, description="The longest prompt; a longer one gets a 400.")
    max_pixels: int = Field(
        2048 * 2048, ge=16 * 16, description="The largest picture, as width times height; a larger one gets a 400."
    )
    max_image_mb: float = Field(
        10, gt=0, description="The largest image to edit, in megabytes; a larger one gets a 413."
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="What to compute in; auto is bfloat16, and float32 where MLX runs on a CPU."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> FluxOptions:
        config, task = self.choice
        for path in self.lora_paths:
            if not path.expanduser().is_file():
                raise ValueError(f"--lora-paths: there is no file {str(path)!r}")
        if self.lora_scales and len(self.lora_scales) != len(self.lora_paths):
            raise ValueError(
                f"--lora-scales has {len(self.lora_scales)} numbers for {len(self.lora_paths)} files of --lora-paths; "
                "give one for each"
            )
        pipeline = config.pipeline(task)
        if self.lora_paths and pipeline is not None and not pipeline.loras:
            raise ValueError(f"--lora-paths: mflux has no LoRA support for {config.name!r}")
        return self

    @property
    def choice(self) -> tuple[Config, Task]:
        """The config and the task that are asked for, or go without saying."""
        return configs.choose(self.config_name, self.task)

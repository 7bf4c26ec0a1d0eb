"""The options of the backend `flux`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from mlx_host.backend import Options
from pydantic import BeforeValidator, Field, FiniteFloat, model_validator

from mlx_host_flux import configs
from mlx_host_flux.configs import Config, Task


def _split_commas(value: Any) -> Any:
    """Convert `a,b` to a list; elements of a list are split as well."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        return value
    parts: list[Any] = []
    for element in values:
        parts += [part.strip() for part in element.split(",")] if isinstance(element, str) else [element]
    return parts


class FluxOptions(Options):
    config_name: str | None = Field(
        None,
        description="Model configuration, such as flux-dev, z-image-turbo or flux2-klein-4b. Detected from a folder "
        "written by mflux-save; otherwise the default is flux-schnell, or flux-kontext-dev for edits.",
    )
    task: Literal["image-generation", "image-edit"] | None = Field(
        None, description="Generate images from text, or edit images. Required only for models that support both."
    )
    quantize: Literal[4, 8, 16] = Field(
        8, description="Bits per weight; 16 does not quantize. Weights that were saved quantized are not changed."
    )
    lora_paths: Annotated[list[Path], BeforeValidator(_split_commas)] = Field(
        default=[], description="LoRA files to apply, separated by commas."
    )
    lora_scales: Annotated[list[FiniteFloat], BeforeValidator(_split_commas)] = Field(
        default=[], description="Scale of each LoRA file, separated by commas (default: 1.0 each)."
    )
    max_prompt_chars: int = Field(
        1000, ge=1, description="Maximum length of a prompt in characters. Longer prompts are rejected with a 400."
    )
    max_pixels: int = Field(
        2048 * 2048,
        ge=16 * 16,
        description="Maximum size of an image, as width times height. Larger sizes are rejected with a 400.",
    )
    max_image_mb: float = Field(
        10, gt=0, description="Maximum size of an uploaded image in megabytes. Larger files are rejected with a 413."
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="Data type for computation. auto: bfloat16, or float32 if MLX runs on a CPU."
    )

    @model_validator(mode="after")
    def _check_combination(self) -> FluxOptions:
        config, task = self.choice
        for path in self.lora_paths:
            if not path.expanduser().is_file():
                raise ValueError(f"--lora-paths: file {str(path)!r} not found")
        if self.lora_scales and len(self.lora_scales) != len(self.lora_paths):
            raise ValueError(
                f"--lora-scales has {len(self.lora_scales)} values for {len(self.lora_paths)} files of --lora-paths; "
                "pass one value per file"
            )
        pipeline = config.pipeline(task)
        if self.lora_paths and pipeline is not None and not pipeline.loras:
            raise ValueError(f"--lora-paths: mflux has no LoRA support for {config.name!r}")
        return self

    @property
    def choice(self) -> tuple[Config, Task]:
        """The configured or default config and task. Raises ValueError."""
        return configs.choose(self.config_name, self.task)

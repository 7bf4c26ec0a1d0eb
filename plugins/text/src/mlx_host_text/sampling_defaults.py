"""Sampling parameters and their defaults: the request, else the options, else the model's generation_config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlx_host.errors import InvalidRequestError, LoadError
from mlx_host.requests import Sampling

from mlx_host_text.options import GenerationOptions
from mlx_host_text.sampling import SamplingSettings


def read_generation_config(folder: Path) -> dict[str, Any]:
    """The sampling parameters in the model's generation_config.json."""
    file = folder / "generation_config.json"
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LoadError(f"{str(file)!r} is not valid JSON: {error}; correct or remove it.") from error
    if config.get("do_sample") is False:
        config["temperature"] = 0.0
    return dict(config)


def resolve(sampling: Sampling, options: GenerationOptions, generation_config: Mapping[str, Any]) -> SamplingSettings:
    chosen: dict[str, Any] = {}
    for field in fields(SamplingSettings):
        candidates = (getattr(sampling, field.name), getattr(options, field.name), generation_config.get(field.name))
        value = next((candidate for candidate in candidates if candidate is not None), None)
        if value is not None:
            chosen[field.name] = value
    return SamplingSettings(**chosen)


def check_logit_bias(bias: Mapping[int, float], vocabulary_size: int) -> None:
    for token in bias:
        if not 0 <= token < vocabulary_size:
            raise InvalidRequestError(
                f"logit_bias: token id {token!r} is out of range (0 to {vocabulary_size - 1}).", param="logit_bias"
            )


def check_tokens(tokens: Sequence[int], vocabulary_size: int, param: str) -> None:
    for token in tokens:
        if not 0 <= token < vocabulary_size:
            raise InvalidRequestError(
                f"{param}: token id {token!r} is out of range (0 to {vocabulary_size - 1}).", param=param
            )

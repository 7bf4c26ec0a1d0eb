"""Where sampling parameters come from: the request, else the options, else the model's generation_config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlx_host.errors import InvalidRequestError, LoadError
from mlx_host.requests import Sampling

from mlx_host_lm.options import LmOptions
from mlx_host_lm.sampling import Settings

POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len")


def read_generation_config(folder: Path) -> dict[str, Any]:
    """The sampling parameters that the model's makers recommend."""
    file = folder / "generation_config.json"
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LoadError(f"{str(file)!r} is not JSON: {error}; mend or remove it") from error
    if config.get("do_sample") is False:
        config["temperature"] = 0.0
    return dict(config)


def resolve(sampling: Sampling, options: LmOptions, generation_config: Mapping[str, Any]) -> Settings:
    chosen: dict[str, Any] = {}
    for field in fields(Settings):
        candidates = (getattr(sampling, field.name), getattr(options, field.name), generation_config.get(field.name))
        value = next((candidate for candidate in candidates if candidate is not None), None)
        if value is not None:
            chosen[field.name] = value
    return Settings(**chosen)


def check_logit_bias(bias: Mapping[int, float], vocabulary: int) -> None:
    for token in bias:
        if not 0 <= token < vocabulary:
            raise InvalidRequestError(
                f"logit_bias names token {token!r}, but this model's tokens are 0 to {vocabulary - 1}",
                param="logit_bias",
            )


def check_tokens(tokens: Sequence[int], vocabulary: int, param: str) -> None:
    for token in tokens:
        if not 0 <= token < vocabulary:
            raise InvalidRequestError(
                f"{param} holds token {token!r}, but this model's tokens are 0 to {vocabulary - 1}", param=param
            )


def find_number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these numbers that a model's configuration, or its text part, holds."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for name in names:
            if isinstance(part.get(name), int):
                return int(part[name])
    return None

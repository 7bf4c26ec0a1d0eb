"""How a model pools token vectors, read from the files that sentence-transformers stores with its weights.

`modules.json` lists the stages (Transformer, Pooling, Dense, Normalize), each with a folder;
`sentence_bert_config.json` and `config_sentence_transformers.json` contain the length and the prompts.
See https://sbert.net/docs/package_reference/sentence_transformer/models.html.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_host.errors import LoadError

from mlx_host_text.embedding_scheduler import InputType

Prompts = Mapping[InputType | None, str]
"""The text prepended to an input, by the input type of its request."""

# The names of prompts, the most common first.
QUERY_PROMPTS = ("query",)
DOCUMENT_PROMPTS = ("document", "passage")

# The keys of 1_Pooling/config.json; if several are set, the pooled vectors are concatenated in this order.
POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# The keys of config.json with the lengths that a model was trained for.
MATRYOSHKA_KEYS = ("matryoshka_dimensions", "matryoshka_dims")
STAGES = ("Transformer", "Pooling", "Dense", "Normalize")


@dataclass(frozen=True)
class PoolingConfig:
    """The processing before and after the network, as the model's files specify it.

    `pooling` contains the pooling modes and is empty if none is specified. `dense` is the number of dense layers after
    pooling, None if it is not specified. If `pool_prompt` is False, the tokens of the prompt are not pooled. `prompts`
    maps names to texts; `max_length` is in tokens.
    """

    pooling: tuple[str, ...] = ()
    pool_prompt: bool = True
    dense: int | None = None
    normalize: bool = True
    lower_case: bool = False
    max_length: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    matryoshka_dimensions: Container[int] = ()


def read_pooling_config(folder: Path, config: Mapping[str, Any]) -> PoolingConfig:
    """Read the files of a model with this config.json; LoadError names what is not supported."""
    stages = _stages(folder)
    pooling = _pooling(folder, stages)
    text = _read(folder / "sentence_bert_config.json")
    sentence = _read(folder / "config_sentence_transformers.json")
    return PoolingConfig(
        pooling=_modes(pooling, folder),
        pool_prompt=pooling.get("include_prompt", True) is not False,
        dense=sum(kind == "Dense" for kind, _ in stages) if stages else None,
        # Without a list of stages this is unknown; OpenAI's clients expect unit vectors.
        normalize=not stages or any(kind == "Normalize" for kind, _ in stages),
        lower_case=text.get("do_lower_case") is True,
        max_length=text.get("max_seq_length"),
        prompts={name: prompt for name, prompt in (sentence.get("prompts") or {}).items() if prompt},
        default_prompt=sentence.get("default_prompt_name"),
        matryoshka_dimensions=_matryoshka_dimensions(config),
    )


def _stages(folder: Path) -> list[tuple[str, str]]:
    path = folder / "modules.json"
    if not path.is_file():
        return []
    modules: Sequence[Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    stages = [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in modules]
    for kind, _ in stages:
        if kind not in STAGES:
            raise LoadError(f"modules.json has an unsupported stage {kind!r} (supported: {', '.join(STAGES)}).")
    return stages


def _pooling(folder: Path, stages: Sequence[tuple[str, str]]) -> Mapping[str, Any]:
    for kind, path in stages:
        if kind == "Pooling":
            return _read(folder / path / "config.json")
    return _read(folder / "1_Pooling" / "config.json")


def _modes(config: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    if named is not None:
        modes = (named,) if isinstance(named, str) else tuple(named)
    else:
        modes = tuple(mode for key, mode in POOLING_KEYS.items() if config.get(key) is True)
    if config and (not modes or set(modes) - set(POOLING_KEYS.values())):
        known = ", ".join(POOLING_KEYS.values())
        raise LoadError(
            f"The pooling configuration of {folder.name!r} specifies {modes or 'no mode'}; supported: {known}."
        )
    return modes


def _matryoshka_dimensions(config: Mapping[str, Any]) -> Container[int]:
    for key in MATRYOSHKA_KEYS:
        if isinstance(sizes := config.get(key), list):
            return tuple(sizes)
    return range(1, config["hidden_size"]) if config.get("is_matryoshka") is True and "hidden_size" in config else ()


def _read(path: Path) -> Mapping[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def prompts(
    config: PoolingConfig,
    *,
    query_prefix: str | None = None,
    document_prefix: str | None = None,
    default_input_type: InputType | None = None,
) -> Prompts:
    """The prompt that is prepended to a text, by the input type of its request; a prefix replaces that of the files."""

    def prompt(names: Sequence[str]) -> str:
        return next((config.prompts[name] for name in names if name in config.prompts), "")

    query = prompt(QUERY_PROMPTS) if query_prefix is None else query_prefix
    document = prompt(DOCUMENT_PROMPTS) if document_prefix is None else document_prefix
    defaults = {"query": query, "document": document, None: config.prompts.get(config.default_prompt or "", "")}
    return {"query": query, "document": document, None: defaults[default_input_type]}

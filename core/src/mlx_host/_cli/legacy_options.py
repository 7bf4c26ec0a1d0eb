"""mlx-openai-server's command line and configuration file, read as ours: what each setting of it became."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich_click as click

from mlx_host._plugins.manager import Plugins
from mlx_host._settings import HostSettings, ModelSettings, flag_name
from mlx_host.errors import UsageError

BACKENDS = {
    "lm": "lm",
    "multimodal": "vlm",
    "image-generation": "flux",
    "image-edit": "flux",
    "embeddings": "embeddings",
    "whisper": "whisper",
}
# Both are the same backend's, which is told which one it is.
IMAGE_TYPES = ("image-generation", "image-edit")
# What was meant where nothing was said.
DEFAULT_TYPE = "lm"
COMMAND = "launch"
SUFFIXES = (".yaml", ".yml")


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _lower(value: Any) -> str:
    return str(value).lower()


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Old:
    """A setting as mlx-openai-server had it.

    `name` is its flag's, `key` its key's in the YAML file where that differs, `kind` its type. `now` is the field that
    takes its value, made by `value`; `note` says why nothing does where no installed backend has such a field.
    """

    name: str
    kind: type
    now: str
    key: str
    note: str
    value: Callable[[Any], Any]


def _old(
    name: str,
    kind: type = str,
    *,
    now: str | None = None,
    key: str | None = None,
    note: str = "",
    value: Callable[[Any], Any] = _same,
) -> Old:
    return Old(name, kind, now or name, key or name, note, value)


def _sampling(name: str, kind: type = float, note: str = "") -> Old:
    return _old(name, kind, key=f"default_{name}", note=note)


_NO_DRAFTS = "there is no speculative decoding"
_NO_QUANTIZED_CACHE = "keys and values are not quantized"
_AT_START = "every model is loaded at the start and stays"

SERVER = (
    _old("host"),
    _old("port", int),
    _old("log_file"),
    _old("no_log_file", bool),
    _old("log_level", value=_lower),
)
MODEL = (
    _old("model_path", now="model"),
    _old("model_type", now="backend", value=lambda value: BACKENDS[value]),
    _old("served_model_name"),
    _old("queue_timeout", float),
    _old("queue_size", int),
    _old("enable_auto_tool_choice", bool),
    _old("tool_call_parser"),
    _old("reasoning_parser"),
    _old("decode_concurrency", int, now="max_concurrency", key="batch_completion_size"),
    _old("disable_batching", bool, now="max_concurrency", value=lambda value: 1),
    _old("debug", bool, now="log_level", value=lambda value: "debug"),
    _old("context_length", int),
    _old("trust_remote_code", bool),
    _old("chat_template_file"),
    _old("prefill_step_size", int, key="batch_prefill_step_size"),
    _old("max_bytes", int, now="prompt_cache_bytes", key="prompt_cache_max_bytes"),
    _old("quantize", int),
    _old("config_name"),
    _old("lora_paths", value=_listed),
    _old("lora_scales", value=_listed),
    _old("disable_auto_resize", bool),
    _sampling("max_tokens", int),
    _sampling("temperature"),
    _sampling("top_p"),
    _sampling("top_k", int),
    _sampling("min_p"),
    _sampling("repetition_penalty"),
    _sampling("repetition_context_size", int),
    _sampling("presence_penalty"),
    _sampling("xtc_probability"),
    _sampling("xtc_threshold"),
    _sampling("seed", int, note="a request that wants a seed says so"),
    _old("prompt_concurrency", int, key="batch_prefill_size", note="--prefill-step-size bounds what is read at once"),
    _old("prompt_cache_size", int, note="the prompt cache is bounded by its bytes, --prompt-cache-bytes"),
    _old("prompt_cache_dir", note="the prompt cache is kept in memory"),
    _old("draft_model_path", note=_NO_DRAFTS),
    _old("num_draft_tokens", int, note=_NO_DRAFTS),
    _old("kv_bits", int, note=_NO_QUANTIZED_CACHE),
    _old("kv_group_size", int, note=_NO_QUANTIZED_CACHE),
    _old("quantized_kv_start", int, note=_NO_QUANTIZED_CACHE),
)
# These were keys of the file alone.
FILE_ONLY = (
    _old("message_converter", note="the chat template is probed for the shape of messages that it takes"),
    _old("on_demand", bool, note=_AT_START),
    _old("on_demand_idle_timeout", int, note=_AT_START),
)

_PARAMS: Mapping[type, Mapping[str, Any]] = {
    bool: {"is_flag": True},
    int: {"type": click.INT},
    float: {"type": click.FLOAT},
    str: {"type": click.STRING},
}


def type_flag() -> click.Option:
    """The flag `--model-type`, by which an old command line is known."""
    return click.RichOption(
        ["model_type", "--model-type"],
        type=click.Choice(list(BACKENDS)),
        metavar="TYPE",
        default=None,
        help=f"What mlx-openai-server calls the backend: {', '.join(BACKENDS)}. With it, or with --model-path and no "
        "--backend, the other flags of that program are taken too.",
        panel="Model",
    )


def flags(known: Collection[str | None]) -> Iterator[click.Option]:
    """The flags that mlx-openai-server had and that are not `known` here."""
    for old in (*SERVER, *MODEL):
        if old.name not in known and old.now != "model":
            yield click.RichOption([old.name, flag_name(old.name)], **_PARAMS[old.kind], default=None, hidden=True)


def modern(params: Mapping[str, Any], fields: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Give the values of old flags to the `fields` that take them now; a new flag wins. The notes say what is lost."""
    olds = {old.name: old for old in (*SERVER, *MODEL) if old.name in params and old.name not in fields}
    found, notes = _translated(params, olds, fields)
    kept = {name: value for name, value in params.items() if name not in olds}
    said = {name: value for name, value in kept.items() if value is not None}
    return {**kept, **found, **said}, [f"{flag_name(name)} {note}" for name, note in notes]


def _translated(
    values: Mapping[str, Any], olds: Mapping[str, Old], fields: Collection[str]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    found: dict[str, Any] = {}
    notes: list[tuple[str, str]] = []
    # In the order of `olds`: disable_batching has the last word on how many requests run.
    for name, old in olds.items():
        value = values.get(name)
        if value is None or (value is False and old.now != old.name):
            continue
        if old.now in fields:
            found[old.now] = old.value(value)
        elif value is not False:
            notes.append((name, f"has no effect: {old.note or 'the backend has no such option'}."))
    if values.get("model_type") in IMAGE_TYPES and "task" in fields:
        found["task"] = values["model_type"]
    return found, notes


def load_yaml(path: Path, plugins: Plugins) -> tuple[dict[str, Any], list[str]]:
    """Read a configuration file of mlx-openai-server's as the tables of ours; UsageError says what is wrong with it."""
    # Only who brings an old file waits for it.
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"--config {str(path)!r}: there is no such file.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error)
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            mark = error.problem_mark
            reason = f"{error.problem} (at line {mark.line + 1}, column {mark.column + 1})"
        # In one line, as all errors are; the YAML reader likes to tell it in several.
        raise UsageError(f"--config {str(path)!r} cannot be read: {' '.join(reason.split())}.") from error
    server = raw.get("server") or {} if isinstance(raw, dict) else None
    models = raw.get("models") if isinstance(raw, dict) else None
    tables = [server, *models] if isinstance(models, list) else []
    if not models or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"--config {str(path)!r} must have a list `models` of tables, and may have a table `server`.")
    file, notes = _read_table(tables[0], SERVER, HostSettings.model_fields, f"server in {str(path)!r}")
    file["models"] = []
    for number, table in enumerate(tables[1:], start=1):
        where = f"model number {number} of {str(path)!r}"
        model, more = _read_model(table, plugins, where)
        # It was said of a model; there is one log.
        file.update({"log_level": model.pop("log_level")} if "log_level" in model else {})
        file["models"].append(model)
        notes += more
    return file, notes


def _read_model(table: Mapping[str, Any], plugins: Plugins, where: str) -> tuple[dict[str, Any], list[str]]:
    kind = table.get("model_type", DEFAULT_TYPE)
    if not isinstance(kind, str) or kind not in BACKENDS:
        raise UsageError(f"{where}: model_type is {kind!r}; there is: {', '.join(BACKENDS)}.")
    options = plugins.backend(BACKENDS[kind]).options
    fields = {*ModelSettings.model_fields, *options.model_fields, "log_level"}
    return _read_table({**table, "model_type": kind}, (*MODEL, *FILE_ONLY), fields, where)


def _read_table(
    table: Mapping[str, Any], known: Sequence[Old], fields: Collection[str], where: str
) -> tuple[dict[str, Any], list[str]]:
    by_key = {old.key: old for old in known}
    for key in table:
        if key not in by_key:
            close = difflib.get_close_matches(str(key), by_key, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there is: {', '.join(sorted(by_key))}"
            raise UsageError(f"{where}: there is no key {key!r} ({hint}).")
    found, notes = _translated(table, by_key, fields)
    return found, [f"{key} of {where} {note}" for key, note in notes]

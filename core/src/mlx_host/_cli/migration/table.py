"""The settings of mlx-openai-server, and their equivalents."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

BACKENDS = {
    "lm": "lm",
    "multimodal": "vlm",
    "image-generation": "flux",
    "image-edit": "flux",
    "embeddings": "embeddings",
    "whisper": "whisper",
}
# Model types of one backend, whose option `task` has these values.
IMAGE_TYPES = ("image-generation", "image-edit")
DEFAULT_TYPE = "lm"


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _lower(value: Any) -> str:
    return str(value).lower()


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class LegacySetting:
    """A setting of mlx-openai-server.

    `name` is the name of its flag, `key` its key in the YAML file, `kind` its type. Its value, converted by `value`, is
    assigned to the setting `field`; if the backend has no such setting, `note` is the reason why it has no effect.
    """

    name: str
    kind: type
    field: str
    key: str
    note: str
    value: Callable[[Any], Any]


def _setting(
    name: str,
    kind: type = str,
    *,
    field: str | None = None,
    key: str | None = None,
    note: str = "the backend has no such option",
    value: Callable[[Any], Any] = _same,
) -> LegacySetting:
    return LegacySetting(name, kind, field or name, key or name, note, value)


def _sampling(name: str, kind: type = float, **more: Any) -> LegacySetting:
    return _setting(name, kind, key=f"default_{name}", **more)


_NO_DRAFTS = "speculative decoding is not supported"
_NO_QUANTIZED_CACHE = "the KV cache is not quantized"
_AT_STARTUP = "every model is loaded at startup and stays loaded"

SERVER = (
    _setting("host"),
    _setting("port", int),
    _setting("log_file"),
    _setting("no_log_file", bool),
    _setting("log_level", value=_lower),
)
MODEL = (
    _setting("model_path", field="model"),
    _setting("model_type", field="backend", value=lambda value: BACKENDS[value]),
    _setting("served_model_name"),
    _setting("queue_timeout", float),
    _setting("queue_size", int),
    _setting("enable_auto_tool_choice", bool),
    _setting("tool_call_parser"),
    _setting("reasoning_parser"),
    _setting("decode_concurrency", int, field="max_concurrency", key="batch_completion_size"),
    _setting("disable_batching", bool, field="max_concurrency", value=lambda value: 1),
    _setting("debug", bool, field="log_level", value=lambda value: "debug"),
    _setting("context_length", int),
    _setting("trust_remote_code", bool),
    _setting("chat_template_file"),
    _setting("prefill_step_size", int, key="batch_prefill_step_size"),
    _setting("max_bytes", int, field="prompt_cache_bytes", key="prompt_cache_max_bytes"),
    _setting("quantize", int),
    _setting("config_name"),
    _setting("lora_paths", value=_listed),
    _setting("lora_scales", value=_listed),
    _setting("disable_auto_resize", bool),
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
    _sampling("seed", int, note="set `seed` in the request instead"),
    _setting("prompt_concurrency", int, key="batch_prefill_size", note="--prefill-step-size limits each prefill step"),
    _setting("prompt_cache_size", int, note="the prompt cache is limited by its size, see --prompt-cache-bytes"),
    _setting("prompt_cache_dir", note="the prompt cache is kept in memory"),
    _setting("draft_model_path", note=_NO_DRAFTS),
    _setting("num_draft_tokens", int, note=_NO_DRAFTS),
    _setting("kv_bits", int, note=_NO_QUANTIZED_CACHE),
    _setting("kv_group_size", int, note=_NO_QUANTIZED_CACHE),
    _setting("quantized_kv_start", int, note=_NO_QUANTIZED_CACHE),
)
# Keys of the file without a flag.
FILE_ONLY = (
    _setting("message_converter", note="the message format is detected from the chat template"),
    _setting("on_demand", bool, note=_AT_STARTUP),
    _setting("on_demand_idle_timeout", int, note=_AT_STARTUP),
)


def convert(
    values: Mapping[str, Any], known: Mapping[str, LegacySetting], fields: Collection[str]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Convert values of mlx-openai-server to `fields`; also return the names without effect, with the reason."""
    found: dict[str, Any] = {}
    notes: list[tuple[str, str]] = []
    # In the order of `known`: of several settings for one field, the last is used.
    for name, setting in known.items():
        value = values.get(name)
        if value is None or (value is False and setting.field != setting.name):
            continue
        if setting.field in fields:
            found[setting.field] = setting.value(value)
        elif value is not False:
            notes.append((name, f"has no effect: {setting.note}."))
    if values.get("model_type") in IMAGE_TYPES and "task" in fields:
        found["task"] = values["model_type"]
    return found, notes

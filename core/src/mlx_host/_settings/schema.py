"""The settings of the server and of each served model."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mlx_host.api import ApiSettings


class ModelSettings(BaseModel):
    """The settings of one served model that do not depend on its backend."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str = Field(
        min_length=1, description="The backend that loads the model; `mlx-host plugins` lists the installed ones."
    )
    model: str | None = Field(
        None,
        min_length=1,
        description="A local folder, a Hugging Face id, or a name that a plugin resolves, such as demo:smollm2.",
    )
    served_model_name: str | None = Field(
        None,
        min_length=1,
        description="The model's name in requests. Defaults to the folder's name, or to the value of --model.",
    )
    parser: str | None = Field(
        None,
        description="Sets both --tool-call-parser and --reasoning-parser; auto selects the parser that matches the "
        "chat template.",
    )
    tool_call_parser: str | None = Field(None, description="The parser that extracts tool calls from the output.")
    reasoning_parser: str | None = Field(None, description="The parser that extracts reasoning from the output.")
    enable_auto_tool_choice: bool = Field(
        True,
        description="Offer tools to the model when `tool_choice` is `auto`. If disabled, `auto` behaves like `none`.",
    )
    repair_tool_calls: bool = Field(
        True,
        description="Repair tool calls whose JSON is damaged, if the result conforms to the tool's schema. "
        "If disabled, they are text.",
    )
    stream_tool_arguments: bool = Field(
        False,
        description="Stream the arguments of all tool calls as they are generated. By default, they are streamed only "
        "if a grammar guarantees that calls are valid: with `strict` tools, and if `tool_choice` forces a call.",
    )
    max_concurrency: int | None = Field(
        None, ge=1, description="Maximum number of running requests. Defaults to the backend's own limit."
    )
    queue_timeout: Annotated[float, Field(gt=0)] = Field(
        300,
        description="Maximum time that a request may wait and run, in seconds; then it fails with a 504. A stream that "
        "has started is not interrupted.",
    )
    queue_size: int = Field(100, ge=0, description="Maximum number of queued requests; others are rejected with a 429.")
    stall_timeout: Annotated[float, Field(ge=0)] = Field(
        120,
        description="Restart a model that has active requests but makes no progress for this many seconds. 0 disables "
        "it.",
    )
    env: dict[str, str] = Field(
        default_factory=dict, description="An environment variable for the model's process; can be repeated."
    )

    @field_validator("env")
    @classmethod
    def _check_env(cls, env: dict[str, str]) -> dict[str, str]:
        for key, value in env.items():
            if not key or "=" in key or "\0" in key + value:
                raise ValueError(f"{key!r} with the value {value!r} is not a valid environment variable")
        return env

    @property
    def name(self) -> str:
        """The name under which the model is served."""
        if self.served_model_name:
            return self.served_model_name
        if self.model is None:
            return self.backend
        path = os.path.expanduser(self.model)
        return Path(path).resolve().name if os.path.exists(path) else self.model


class HostSettings(BaseModel):
    """The settings of the server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="The address to listen on. Addresses other than 127.0.0.1 expose the server to the network.",
    )
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 selects a free port.")
    log_file: Path | None = Field(
        None, description="Also write the log to this file; rotated at 500 MB, kept for 10 days. Off by default."
    )
    no_log_file: bool = Field(False, description="Write no log file, even if log_file is set elsewhere.")
    log_format: Literal["text", "json"] = Field(
        "text",
        description="Format of the log: text, or json with one object per line. It contains no prompts or outputs.",
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        "info", description="Minimum log level."
    )
    max_body_mb: float = Field(
        64, gt=0, description="Maximum size of a request body, in megabytes; larger ones are rejected with a 413."
    )
    keep_alive: float = Field(
        10,
        ge=0,
        description="Seconds of silence after which a stream sends a comment, so that proxies keep it open. 0 disables "
        "it. A request that is rejected after the first comment gets an error event instead of an error status.",
    )
    shutdown_timeout: float = Field(
        30, ge=0, description="Seconds that running requests may take to finish after SIGTERM or Ctrl-C."
    )
    strict: bool = Field(
        False,
        description="Exit if one of several models fails to load. A single model that fails to load always ends the "
        "server.",
    )
    strict_plugins: bool = Field(
        False,
        description="Exit if a plugin fails to load, or if two plugins register the same backend, parser or command. "
        "An API that two plugins register is always an error, unless it is disabled.",
    )
    disable_api: list[str] = Field(
        default_factory=list,
        description="APIs to disable, separated by commas; can be repeated. `mlx-host plugins` lists the installed "
        "APIs.",
    )

    @field_validator("disable_api")
    @classmethod
    def _split_commas(cls, names: list[str]) -> list[str]:
        return [name.strip() for text in names for name in text.split(",") if name.strip()]


@dataclass(frozen=True)
class ModelConfig:
    """One model's settings, and its backend's options as JSON values; both include defaults."""

    settings: ModelSettings
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """The complete configuration: the server, its models in order, and the enabled APIs by name."""

    host: HostSettings
    models: tuple[ModelConfig, ...]
    apis: Mapping[str, ApiSettings]


def option_values(options: BaseModel) -> dict[str, Any]:
    """Return a backend's options as JSON values."""
    return options.model_dump(mode="json")

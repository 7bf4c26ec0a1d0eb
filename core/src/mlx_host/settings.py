"""What can be set, once: each field is a flag, an environment variable and a key of mlx-host.toml.

A flag wins over the environment, the environment over the file, the file over the default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from mlx_host.errors import UsageError

ENV_PREFIX = "MLX_HOST_"


class ModelSettings(BaseModel):
    """One served model, apart from its backend's own options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str = Field(description="What loads the model; `mlx-host plugins` lists the installed backends.")
    model: str | None = Field(
        None, description="A local folder, a Hugging Face id, or a name that a plugin resolves, such as demo:smollm2."
    )
    served_model_name: str | None = Field(
        None, description="The model's name in requests; by default as --model gives it."
    )
    parser: str | None = Field(None, description="Sets --tool-call-parser and --reasoning-parser in one.")
    tool_call_parser: str | None = Field(None, description="Reads tool calls out of the text.")
    reasoning_parser: str | None = Field(None, description="Reads reasoning out of the text.")
    max_concurrency: int | None = Field(
        None, ge=1, description="Requests that run at once; by default as many as the backend takes."
    )
    queue_timeout: Annotated[float, Field(gt=0)] = Field(
        300,
        description="Seconds that a request may take, waiting included, before it ends with a 504; an answer that "
        "already streams is not cut.",
    )
    queue_size: int = Field(100, ge=0, description="Requests that may wait; one more gets a 429.")
    env: dict[str, str] = Field(
        default_factory=dict, description="KEY=VALUE for the environment of the model's process; may be repeated."
    )

    @property
    def name(self) -> str:
        """The name under which the model is served."""
        if self.served_model_name:
            return self.served_model_name
        if self.model is None:
            return self.backend
        path = Path(self.model).expanduser()
        return path.resolve().name if path.exists() else self.model


class HostSettings(BaseModel):
    """What concerns the host and not one of its models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        "127.0.0.1", description="The address to listen on; others than 127.0.0.1 open it to the network."
    )
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    log_file: Path = Field(Path("logs/app.log"), description="Rotated at 500 MB, kept for 10 days.")
    no_log_file: bool = Field(False, description="Write no log file.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level that is logged."
    )
    strict_plugins: bool = Field(False, description="Refuse to start while a plugin is broken.")


SettingsT = TypeVar("SettingsT", bound=BaseModel)


def load_file(path: Path) -> dict[str, Any]:
    """Read a mlx-host.toml; UsageError says what is wrong with it."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise UsageError(f"--config {str(path)!r}: there is no such file.") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {str(path)!r} cannot be read: {error}") from error


def from_environment(schema: type[BaseModel]) -> dict[str, Any]:
    """Read what the environment sets of a schema's fields, with pydantic-settings' rules for lists and tables."""
    bound = type("Environment", (schema, BaseSettings), {"model_config": SettingsConfigDict(env_prefix=ENV_PREFIX)})
    return EnvSettingsSource(bound)()


def layered(
    schema: type[SettingsT], flags: Mapping[str, Any], file: Mapping[str, Any], where: str = "the configuration file"
) -> SettingsT:
    """Merge flags over environment over file over defaults; UsageError names each wrong value and its origin."""
    environment = from_environment(schema)
    merged: dict[str, Any] = {**file, **environment, **flags}
    for key, value in merged.items():
        tables = [layer[key] for layer in (file, environment, flags) if isinstance(layer.get(key), Mapping)]
        if isinstance(value, Mapping) and len(tables) > 1:
            merged[key] = {k: v for table in tables for k, v in table.items()}
    try:
        return schema.model_validate(merged)
    except ValidationError as error:
        raise UsageError(_explain(error, schema, flags, environment, where)) from None


def _explain(
    error: ValidationError,
    schema: type[BaseModel],
    flags: Mapping[str, Any],
    environment: Mapping[str, Any],
    where: str,
) -> str:
    sentences = []
    for fault in error.errors(include_url=False):
        key = str(fault["loc"][0]) if fault["loc"] else ""
        flag = f"--{key.replace('_', '-')}"
        if fault["type"] == "extra_forbidden":
            known = ", ".join(sorted(schema.model_fields))
            sentences.append(f"{where} has an unknown key {key!r}; there is: {known}")
            continue
        if fault["type"] == "missing":
            sentences.append(f"{flag} is missing; give it as a flag, as {ENV_PREFIX}{key.upper()} or in {where}")
            continue
        if key in flags:
            name = flag
        elif key in environment:
            name = f"{ENV_PREFIX}{key.upper()}"
        else:
            name = f"{key!r} in {where}"
        reason = fault["msg"].removeprefix("Value error, ")
        sentences.append(f"{name}: {reason[0].lower() + reason[1:]} (got {fault['input']!r})" if key else reason)
    return "; ".join(sentences) + "."


@dataclass(frozen=True)
class Configured:
    """One model's settings and its backend's options, both complete."""

    settings: ModelSettings
    options: BaseModel


def option_values(options: BaseModel) -> dict[str, Any]:
    """The options as plain JSON values, as they travel to the model's process."""
    return options.model_dump(mode="json")


def refuse_duplicates(names: Sequence[str]) -> None:
    """Two models may not be served under one name."""
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"Two models are named {name!r}; set served_model_name for one of them.")

"""What can be set, once: each field is a flag, an environment variable and a key of mlx-host.toml.

A flag wins over the environment, the environment over the file, the file over the default; tables are merged. Relative
paths start at the working directory, those in the file too.
"""

from __future__ import annotations

import difflib
import os.path
import tomllib
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from mlx_host.errors import UsageError

ENV_PREFIX = "MLX_HOST_"


class ModelSettings(BaseModel):
    """One served model, apart from its backend's own options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str = Field(
        min_length=1, description="What loads the model; `mlx-host plugins` lists the installed backends."
    )
    model: str | None = Field(
        None,
        min_length=1,
        description="A local folder, a Hugging Face id, or a name that a plugin resolves, such as demo:smollm2.",
    )
    served_model_name: str | None = Field(
        None,
        min_length=1,
        description="The model's name in requests; by default the folder's name, or what --model says.",
    )
    parser: str | None = Field(
        None,
        description="Sets --tool-call-parser and --reasoning-parser in one; auto goes by the model's chat template.",
    )
    tool_call_parser: str | None = Field(None, description="Reads tool calls out of the text.")
    reasoning_parser: str | None = Field(None, description="Reads reasoning out of the text.")
    enable_auto_tool_choice: bool = Field(
        True, description="Whether tool_choice auto offers the model its tools; if not, it is as none."
    )
    max_concurrency: int | None = Field(
        None, ge=1, description="Requests that run at once; by default as many as the backend takes."
    )
    queue_timeout: Annotated[float, Field(gt=0)] = Field(
        300,
        description="Seconds that a request may take, waiting included, before it ends with a 504; an answer that "
        "already streams is not cut.",
    )
    queue_size: int = Field(100, ge=0, description="Requests that may wait; one more gets a 429.")
    stall_timeout: Annotated[float, Field(ge=0)] = Field(
        120,
        description="Seconds without a sign from a model that has requests, after which its process is started again; "
        "0: never.",
    )
    env: dict[str, str] = Field(
        default_factory=dict, description="A variable for the environment of the model's process; may be repeated."
    )

    @field_validator("env")
    @classmethod
    def _names_variables(cls, env: dict[str, str]) -> dict[str, str]:
        for key, value in env.items():
            if not key or "=" in key or "\0" in key + value:
                raise ValueError(f"{key!r} cannot be a variable's name with the value {value!r}")
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
    """What concerns the host and not one of its models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        "127.0.0.1", min_length=1, description="The address to listen on; others than 127.0.0.1 open it to the network."
    )
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    log_file: Path = Field(Path("logs/app.log"), description="Rotated at 500 MB, kept for 10 days.")
    no_log_file: bool = Field(False, description="Write no log file.")
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        "info", description="The least level that is logged."
    )
    max_body_mb: float = Field(64, gt=0, description="The largest request body, in megabytes; a larger one gets a 413.")
    keep_alive: float = Field(
        10,
        ge=0,
        description="Seconds of silence after which a stream sends a comment, so that proxies keep it open; 0: never. "
        "A stream that is refused later than that gets an error event in place of a status.",
    )
    shutdown_timeout: float = Field(
        30, ge=0, description="Seconds that requests may take to finish after SIGTERM or Ctrl-C; then they are cut off."
    )
    image_store_mb: float = Field(
        256, ge=0, description="The size of all pictures that are kept for their URLs and for jobs, in megabytes."
    )
    image_store_ttl: float = Field(
        3600, gt=0, description="Seconds that a picture is kept for its URL, and a finished job for who asks."
    )
    image_jobs: int = Field(
        100, ge=0, description="Image jobs that are kept; finished ones make room, else one more gets a 429."
    )
    strict_plugins: bool = Field(False, description="Refuse to start while a plugin is broken or two are at odds.")


SettingsT = TypeVar("SettingsT", bound=BaseModel)

# Other spellings of a field's flag.
ALIASES = {"model": ("model_path",)}


def plain(annotation: Any) -> Any:
    """Look through `X | None` and Annotated; a union of several types is a string until pydantic reads it."""
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return plain(members[0]) if len(members) == 1 else str
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    return annotation


def negation(name: str, schema: type[BaseModel]) -> str | None:
    """Name what switches a bool off: `no_x` for `x`, `x` for `no_x`; None where that is another field."""
    opposite = name.removeprefix("no_") if name.startswith("no_") else f"no_{name}"
    return None if opposite in schema.model_fields else opposite


def _spellings(schema: type[BaseModel]) -> dict[str, str]:
    """The flags of a schema, as names, each with the field that it sets."""
    found: dict[str, str] = {}
    for name, field in schema.model_fields.items():
        opposite = negation(name, schema) if plain(field.annotation) is bool else None
        for spelling in (name, *ALIASES.get(name, ()), *([opposite] if opposite else ())):
            found[spelling] = name
    return found


def option_fault(schema: type[BaseModel]) -> str | None:
    """Say why a backend's options cannot be flags and keys next to core's own, if they cannot."""
    own = {"config", "help", "models", *_spellings(HostSettings), *_spellings(ModelSettings)}
    for spelling, name in _spellings(schema).items():
        if spelling in own:
            return f"its option {name!r} needs the name {spelling!r}, which is mlx-host's own; rename it"
    for name, field in schema.model_fields.items():
        if field.alias is not None or field.validation_alias is not None:
            return f"its option {name!r} has an alias, but a flag, a variable and a key are made of its name"
    return None


def flag_name(field: str) -> str:
    """The flag of a field."""
    return f"--{field.replace('_', '-')}"


def variable_name(field: str) -> str:
    """The environment variable of a field."""
    return f"{ENV_PREFIX}{field.upper()}"


def load_file(path: Path) -> dict[str, Any]:
    """Read a mlx-host.toml; UsageError says what is wrong with it."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise UsageError(f"--config {str(path)!r}: there is no such file.") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {str(path)!r} cannot be read: {error}.") from error


class _Environment(EnvSettingsSource):
    """Reads variables as pydantic-settings does: lists and tables are JSON, an empty variable counts as not set."""

    def prepare_field_value(self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool) -> Any:
        try:
            return super().prepare_field_value(field_name, field, value, value_is_complex)
        except ValueError as error:
            raise UsageError(f"{variable_name(field_name)} must be JSON: {error} (got {value!r}).") from None


def from_environment(schema: type[BaseModel]) -> dict[str, Any]:
    """Read what the environment sets of a schema's fields; UsageError if a list or table is no JSON."""
    config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True)
    bound = type("Environment", (schema, BaseSettings), {"model_config": config})
    return _Environment(bound)()


def layered(
    schema: type[SettingsT],
    flags: Mapping[str, Any],
    file: Mapping[str, Any],
    where: str = "the configuration file",
    also: Collection[str] = (),
) -> SettingsT:
    """Merge flags over environment over file over defaults; UsageError names each wrong value and its origin.

    `also` are keys that may stand next to the schema's in the file, to be named when one is unknown.
    """
    environment = _spelled_out(schema, from_environment(schema))
    flags = _spelled_out(schema, flags)
    merged: dict[str, Any] = {**file, **environment, **flags}
    for key, value in merged.items():
        tables = [layer[key] for layer in (file, environment, flags) if isinstance(layer.get(key), Mapping)]
        if isinstance(value, Mapping) and len(tables) > 1:
            merged[key] = {k: v for table in tables for k, v in table.items()}
    try:
        return schema.model_validate(merged)
    except ValidationError as error:
        explain = _Explanation(flags, environment, where, [*schema.model_fields, *also])
        raise UsageError(explain(error)) from None


def _spelled_out(schema: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the text of a choice by the choice: pydantic does not take "4" for Literal[4, 8]."""
    spelled = dict(values)
    for key, value in values.items():
        field = schema.model_fields.get(key)
        kind = plain(field.annotation) if field is not None else None
        if get_origin(kind) is Literal and isinstance(value, str):
            spelled[key] = {str(choice): choice for choice in get_args(kind)}.get(value, value)
    return spelled


@dataclass(frozen=True)
class _Explanation:
    """Makes a sentence of what pydantic found, with the flag, variable or key that each fault came from."""

    flags: Mapping[str, Any]
    environment: Mapping[str, Any]
    where: str
    known: Sequence[str]

    def __call__(self, error: ValidationError) -> str:
        return "; ".join(self._fault(dict(fault)) for fault in error.errors(include_url=False)) + "."

    def _fault(self, fault: Mapping[str, Any]) -> str:
        path = [str(step) for step in fault["loc"]]
        kind, reason = fault["type"], fault["msg"]
        if kind == "extra_forbidden" and len(path) == 1:
            return f"{self.where} has an unknown key {path[0]!r} ({self._instead(path[0])})"
        if kind == "missing" and len(path) == 1:
            flag, variable = flag_name(path[0]), variable_name(path[0])
            return f"{flag} is missing; give it as a flag, as {variable} or in {self.where}"
        if kind in ("value_error", "assertion_error"):
            reason = reason.removeprefix("Value error, ").removeprefix("Assertion failed, ")
        else:
            got = fault["input"]
            reason = f"{reason[0].lower()}{reason[1:]} (got {str(got) if isinstance(got, Path) else got!r})"
        return f"{self._origin(path)}: {reason}" if path else reason

    def _origin(self, path: Sequence[str]) -> str:
        key, inner = path[0], "".join(f".{step}" for step in path[1:])
        for layer, name in ((self.flags, flag_name(key)), (self.environment, variable_name(key))):
            if key in layer and not (inner and isinstance(layer[key], Mapping) and path[1] not in layer[key]):
                return f"{name}{inner}"
        return f"{key + inner!r} in {self.where}"

    def _instead(self, key: str) -> str:
        # Of equally close names a transposition's is the likelier: it has the same letters.
        close = sorted(difflib.get_close_matches(key, self.known), key=lambda name: sorted(name) != sorted(key))
        if close:
            return f"did you mean {close[0]!r}?"
        if key in ModelSettings.model_fields and "backend" not in self.known:
            return "it belongs into a [[models]] table"
        return f"there is: {', '.join(sorted(self.known))}"


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

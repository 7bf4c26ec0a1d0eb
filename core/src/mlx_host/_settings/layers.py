"""Merges flags, environment variables and configuration files into validated settings."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from mlx_host._settings.names import MODEL, SettingNames, flag_name, is_list, is_table, plain, variable_name
from mlx_host._settings.suggestions import closest
from mlx_host._validation import field_path, reason
from mlx_host.errors import UsageError

SettingsT = TypeVar("SettingsT", bound=BaseModel)


def load_file(path: Path) -> dict[str, Any]:
    """Parse a mlx-host.toml; UsageError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise UsageError(f"--config {str(path)!r}: no such file.") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {str(path)!r} cannot be read: {error}.") from error


@dataclass(frozen=True)
class FileValues:
    """A table of a configuration file: the values by field, its location, and the keys that differ from the fields."""

    values: Mapping[str, Any]
    where: str = "the configuration file"
    keys: Mapping[str, str] = field(default_factory=dict)

    def describe(self, name: str, inner: str) -> str:
        return f"{self.keys.get(name, name) + inner!r} in {self.where}"


class _Environment(EnvSettingsSource):
    """Reads environment variables; an empty variable counts as not set.

    Tables are JSON objects. Lists are JSON arrays or have commas between their members.
    """

    def prepare_field_value(self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool) -> Any:
        kind = plain(field.annotation)
        if is_list(kind) and isinstance(value, str) and not value.lstrip().startswith("["):
            return [member.strip() for member in value.split(",") if member.strip()]
        try:
            return super().prepare_field_value(field_name, field, value, value_is_complex)
        except ValueError as error:
            table = 'a JSON object such as {"KEY": "VALUE"}'
            form = table if is_table(kind) else "a JSON array or a comma-separated list"
            raise UsageError(f"{variable_name(field_name)} must be {form}: {error} (got {value!r}).") from None


class _Variables(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=variable_name(""), env_ignore_empty=True, defer_build=True)


def environment_values(names: SettingNames[Any]) -> dict[str, tuple[str, Any]]:
    """Return what the environment sets: the name of the variable and its value by field.

    UsageError if a table is not JSON.
    """
    fields: dict[str, Any] = {}
    for name, info in names.schema.model_fields.items():
        annotation = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
        fields |= dict.fromkeys(names.names(name), (annotation, None))
    found = _Environment(create_model("Environment", __base__=_Variables, **fields))()
    return {
        field: next((variable_name(name), found[name]) for name in names.names(field) if name in found)
        for field in names.schema.model_fields
        if any(name in found for name in names.names(field))
    }


@dataclass(frozen=True)
class _Layer:
    """The values of one source; `describe(field, inner)` returns the user's name of a value, such as `--env.A`."""

    values: Mapping[str, Any]
    describe: Callable[[str, str], str]


def merge_settings(
    names: SettingNames[SettingsT],
    flags: Mapping[str, Any],
    *tables: FileValues,
    also: Collection[str] = (),
) -> SettingsT:
    """Merge flags, environment variables, `tables` and defaults, in this order of precedence.

    Later tables override earlier ones. `also` are further keys that the last table may contain: they are suggested for
    unknown keys. Raises UsageError with every invalid value and where it was set.
    """
    environment = environment_values(names)
    layers = [
        *(_Layer(table.values, table.describe) for table in tables),
        _Layer(
            _choices(names.schema, {name: value for name, (_, value) in environment.items()}),
            lambda name, inner: f"{environment[name][0]}{inner}",
        ),
        _Layer(_choices(names.schema, flags), lambda name, inner: f"{flag_name(names.name(name))}{inner}"),
    ]
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.values.items():
            below = merged.get(key)
            if isinstance(value, Mapping) and isinstance(below, Mapping):
                merged[key] = {**below, **value}
            else:
                merged[key] = value
    try:
        return names.schema.model_validate(merged)
    except ValidationError as error:
        where = tables[-1].where if tables else FileValues({}).where
        explain = _Explanation(names, layers, where, [*names.schema.model_fields, *also])
        raise UsageError(explain(error)) from None


def _choices(schema: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the strings of Literal fields to their values: pydantic rejects "4" for Literal[4, 8]."""
    converted = dict(values)
    for key, value in values.items():
        info = schema.model_fields.get(key)
        kind = plain(info.annotation) if info is not None else None
        if get_origin(kind) is Literal and isinstance(value, str):
            converted[key] = {str(choice): choice for choice in get_args(kind)}.get(value, value)
    return converted


@dataclass(frozen=True)
class _Explanation:
    """Formats a ValidationError with the flag, variable or key that set each invalid value."""

    names: SettingNames[Any]
    layers: Sequence[_Layer]
    where: str
    known: Sequence[str]

    def __call__(self, error: ValidationError) -> str:
        return "; ".join(self._explain(dict(details)) for details in error.errors(include_url=False)) + "."

    def _explain(self, details: Mapping[str, Any]) -> str:
        path, kind = details["loc"], details["type"]
        if kind == "extra_forbidden" and len(path) == 1:
            return f"{self.where} has an unknown key {path[0]!r} ({self._suggestion(path[0])})"
        if kind == "missing" and len(path) == 1:
            name = self.names.name(path[0])
            flag, variable = flag_name(name), variable_name(name)
            return f"{flag} is required; set it on the command line, as {variable} or in {self.where}"
        return f"{self._origin(path)}: {reason([details])}" if path else reason([details])

    def _origin(self, path: Sequence[str | int]) -> str:
        key = str(path[0])
        inner = field_path(path).removeprefix(key)
        for layer in reversed(self.layers):
            if key in layer.values and not (
                inner and isinstance(layer.values[key], Mapping) and path[1] not in layer.values[key]
            ):
                return layer.describe(key, inner)
        return f"{key + inner!r} in {self.where}"

    def _suggestion(self, key: str) -> str:
        if close := closest(key, self.known):
            return f"did you mean {close!r}?"
        if key in MODEL.schema.model_fields and "backend" not in self.known:
            return "it belongs in a [[models]] table"
        return f"available: {', '.join(sorted(self.known))}"

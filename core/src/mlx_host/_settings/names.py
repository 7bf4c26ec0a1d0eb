"""The names of settings as flags, environment variables and keys."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from mlx_host._settings.schema import HostSettings, ModelSettings
from mlx_host.api import ApiSettings

ENV_PREFIX = "MLX_HOST_"
LISTS = (list, tuple, set, frozenset, Sequence, Set)

SettingsT = TypeVar("SettingsT", bound=BaseModel)


def plain(annotation: Any) -> Any:
    """Strip `| None` and Annotated from an annotation; a union of several types becomes str."""
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return plain(members[0]) if len(members) == 1 else str
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    return annotation


def is_table(kind: Any) -> bool:
    """Whether a plain annotation is a mapping."""
    return (get_origin(kind) or kind) in (dict, Mapping)


def is_list(kind: Any) -> bool:
    """Whether a plain annotation is a list, a tuple or a set."""
    return (get_origin(kind) or kind) in LISTS


def flag_name(name: str) -> str:
    """Return the flag of a setting."""
    return f"--{name.replace('_', '-')}"


def variable_name(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{ENV_PREFIX}{name.upper()}"


def negation(name: str, schema: type[BaseModel]) -> str | None:
    """Return the name that negates a bool: `no_x` for `x`, `x` for `no_x`; None if another field has that name."""
    opposite = _negated(name)
    return None if opposite in schema.model_fields else opposite


def _negated(name: str) -> str:
    return name.removeprefix("no_") if name.startswith("no_") else f"no_{name}"


@dataclass(frozen=True)
class SettingNames(Generic[SettingsT]):
    """The names of a schema's fields on the command line and in the environment.

    `prefix` and an underscore precede every field name. `aliases` maps further names, without the prefix, to fields.
    """

    schema: type[SettingsT]
    prefix: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)

    def name(self, field: str) -> str:
        """Return the main name of a field, such as `responses_store`."""
        return f"{self.prefix}_{field}" if self.prefix else field

    def names(self, field: str) -> list[str]:
        """Return all names of a field, the main one first."""
        aliases = (alias for alias, aliased in self.aliases.items() if aliased == field)
        return list(dict.fromkeys((self.name(field), *aliases)))

    def negations(self, field: str) -> list[str | None]:
        """Return the negation of each name of a field; None for names without one."""
        opposite = negation(field, self.schema) if self.is_switch(field) else None
        if opposite is None:
            return [None for _ in self.names(field)]
        return [self.name(opposite), *map(_negated, self.names(field)[1:])]

    def is_switch(self, field: str) -> bool:
        return plain(self.schema.model_fields[field].annotation) is bool

    def all(self) -> dict[str, str]:
        """Return every name, including negations, with its field."""
        return {
            name: field
            for field in self.schema.model_fields
            for name in (*self.names(field), *self.negations(field))
            if name is not None
        }


HOST = SettingNames(HostSettings)
MODEL = SettingNames(ModelSettings, aliases={"model_path": "model"})
# Flags and top-level keys that are not settings.
RESERVED = ("apis", "config", "help", "model_type", "models")


def option_names(options: type[SettingsT]) -> SettingNames[SettingsT]:
    """Return the names of a backend's options."""
    return SettingNames(options)


def api_names(api: str, settings: type[ApiSettings]) -> SettingNames[ApiSettings]:
    """Return the names of an API's settings."""
    return SettingNames(settings, api.replace("-", "_"), settings.legacy_names)


def check_fields(schema: type[BaseModel]) -> str | None:
    """Return why a schema's fields cannot become flags, variables and keys; None if they can."""
    for name, info in schema.model_fields.items():
        if info.alias is not None or info.validation_alias is not None:
            return f"field {name!r} has an alias, but flags, variables and keys are derived from field names"
    return None


def check_option_names(names: SettingNames[Any]) -> str | None:
    """Describe the first setting whose name mlx-host itself uses; None if there is no such setting."""
    reserved = {*RESERVED, *HOST.all(), *MODEL.all()}
    for name, field_name in names.all().items():
        if name in reserved:
            return f"setting {field_name!r} needs the name {name!r}, which mlx-host itself uses; rename it"
    return None

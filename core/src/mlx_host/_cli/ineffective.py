"""Finds settings that have no effect: variables that no setting has, and settings of disabled APIs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from mlx_host._cli import flags
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import (
    HOST,
    MODEL,
    SettingNames,
    api_names,
    closest,
    environment_values,
    flag_name,
    option_names,
    variable_name,
)

# The variable of the plugin mlx-host-demo, which is not a setting.
OTHERS = ("MLX_HOST_CACHE",)
PREFIX = variable_name("")


def unknown_variables(plugins: Plugins, cli: click.Command) -> Iterator[str]:
    """Describe each environment variable with the prefix of the settings that no setting and no command has."""
    known = {*OTHERS, *_variables_of_commands(cli)}
    for names in _all_names(plugins):
        known |= {variable_name(name) for field in names.schema.model_fields for name in names.names(field)}
    # Without the prefix, which would make all names similar.
    by_name = {variable.removeprefix(PREFIX): variable for variable in known}
    for variable in sorted(os.environ):
        # The names of variables are not case-sensitive.
        name = variable.upper().removeprefix(PREFIX)
        if variable.upper().startswith(PREFIX) and name not in by_name:
            close = closest(name, by_name)
            hint = f"did you mean {by_name[close]}?" if close else "see `mlx-host run --help` for the names"
            yield f"{variable} is not a setting and has no effect ({hint})."


def _all_names(plugins: Plugins) -> Iterator[SettingNames[Any]]:
    yield from (HOST, MODEL)
    yield from (option_names(backend.options) for backend in plugins.backends.found.values())
    yield from (api_names(name, api.settings) for name, api in plugins.apis.found.items())


def _variables_of_commands(command: click.Command) -> Iterator[str]:
    for param in command.params:
        yield from [param.envvar] if isinstance(param.envvar, str) else param.envvar or ()
    for child in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _variables_of_commands(child)


def settings_of_disabled_apis(
    plugins: Plugins, params: Mapping[str, Any], file: Mapping[str, Any], config: Path | None, disabled: list[str]
) -> Iterator[str]:
    """Describe the settings of each disabled API that were given as flags, as variables or in the file."""
    where = str(config) if config is not None else "the configuration file"
    for name, api in plugins.apis.found.items():
        if name not in disabled:
            continue
        names = api_names(name, api.settings)
        given = [flag_name(names.name(field)) for field in flags.given(params, names)]
        given += [variable for variable, _ in environment_values(names).values()]
        given += [f"[apis.{name}] of {where}"] if file.get("apis", {}).get(name) else []
        given += [f"{alias!r} of {where}" for alias in names.aliases if alias in file]
        if given:
            yield f"The API {name!r} is disabled, so these settings have no effect: {', '.join(given)}."

"""Reads the settings from flags, environment variables and a configuration file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_host._cli import choices, flags, migration
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import (
    HOST,
    MODEL,
    FileValues,
    HostSettings,
    ModelConfig,
    ModelSettings,
    Settings,
    api_names,
    closest,
    environment_values,
    flag_name,
    load_file,
    merge_settings,
    option_names,
    option_values,
)
from mlx_host.api import ApiSettings
from mlx_host.errors import UsageError

# Settings that identify one model and therefore cannot apply to several.
IDENTITY = ("backend", "model", "served_model_name")


def read_file(config: Path, plugins: Plugins) -> tuple[dict[str, Any], list[str]]:
    """Read a configuration file of mlx-host or mlx-openai-server; also return notes on keys without effect."""
    return migration.load_yaml(config, plugins) if config.suffix in migration.SUFFIXES else (load_file(config), [])


def model_tables(file: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the [[models]] tables of a configuration file."""
    tables = file.get("models", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError("The models of the configuration file must be [[models]] tables.")
    return tables


def read_settings(
    plugins: Plugins, params: Mapping[str, Any], file: Mapping[str, Any], config: Path | None
) -> Settings:
    """Merge and validate all settings; UsageError if one is invalid, or if --strict-plugins rejects a plugin."""
    where = str(config) if config is not None else "the configuration file"
    legacy = {alias for api in plugins.apis.found.values() for alias in api.settings.legacy_names}
    top = {key: value for key, value in file.items() if key not in ("models", "apis") and key not in legacy}
    host = _host_settings(params, FileValues(top, where))
    if host.strict_plugins and (problems := plugins.problems()):
        raise UsageError(f"--strict-plugins: {'; '.join(problems)}.")
    tables = model_tables(file)
    if len(tables) > 1:
        _reject_identity(params)
    models = [
        configure_model(
            plugins,
            params,
            table,
            f"[[models]] number {number} of {where}" if tables else f"a [[models]] table of {where}",
            in_file=config is not None,
        )
        for number, table in enumerate(tables or [{}], start=1)
    ]
    return Settings(host, tuple(models), _api_settings(plugins, params, file, where, host.disable_api))


def _host_settings(params: Mapping[str, Any], file: FileValues) -> HostSettings:
    given = flags.given(params, HOST)
    if "log_file" in given:
        # A log file named by a flag is written, even if the environment or the file disables it.
        given.setdefault("no_log_file", False)
    return merge_settings(HOST, given, file, also=("apis",))


def _reject_identity(params: Mapping[str, Any]) -> None:
    environment = environment_values(MODEL)
    for name in IDENTITY:
        if params.get(name) is not None or name in environment:
            origin = flag_name(name) if params.get(name) is not None else environment[name][0]
            raise UsageError(f"{origin} applies to one model, but the configuration file has several.")


def configure_model(
    plugins: Plugins, params: Mapping[str, Any], table: Mapping[str, Any], where: str, *, in_file: bool = True
) -> ModelConfig:
    """Merge and validate the settings of one model and its backend's options."""
    own = {key: value for key, value in table.items() if key in ModelSettings.model_fields}
    given = flags.given(params, MODEL)
    if "backend" not in {**own, **given, **environment_values(MODEL)}:
        raise UsageError(
            choices.without_backend(plugins, given.get("model") or own.get("model"), where, in_file=in_file)
        )
    backend = plugins.backend(merge_settings(MODEL, given, FileValues(own, where)).backend)
    settings = merge_settings(MODEL, given, FileValues(backend.settings, where), FileValues(own, where))
    names = option_names(backend.options)
    rest = FileValues({key: value for key, value in table.items() if key not in own}, where)
    options = merge_settings(names, flags.given(params, names), rest, also=ModelSettings.model_fields)
    return ModelConfig(settings, option_values(options))


def _api_settings(
    plugins: Plugins, params: Mapping[str, Any], file: Mapping[str, Any], where: str, disabled: Sequence[str]
) -> dict[str, ApiSettings]:
    """Merge and validate the settings of the enabled APIs."""
    apis = plugins.apis
    tables = file.get("apis", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError("The API settings of the configuration file must be [apis.NAME] tables.")
    known = [*apis.found, *apis.conflicts]
    for name in disabled:
        if name not in known:
            raise UsageError(f"--disable-api {name!r}: unknown API ({_suggestion(name, known)}).")
    for name in tables:
        if name not in known:
            raise UsageError(f"[apis.{name}] of {where}: unknown API {name!r} ({_suggestion(name, known)}).")
    for name in apis.conflicts:
        if name not in disabled:
            apis.check(name)
    settings = {}
    for name, api in apis.found.items():
        if name in disabled:
            continue
        legacy = {alias: field for alias, field in api.settings.legacy_names.items() if alias in file}
        names = api_names(name, api.settings)
        settings[name] = merge_settings(
            names,
            flags.given(params, names),
            FileValues(
                {field: file[alias] for alias, field in legacy.items()},
                where,
                {field: alias for alias, field in legacy.items()},
            ),
            FileValues(tables.get(name, {}), f"[apis.{name}] of {where}"),
        )
    return settings


def _suggestion(name: str, known: Sequence[str]) -> str:
    close = closest(name, known)
    return f"did you mean {close!r}?" if close else f"available: {', '.join(sorted(known))}"

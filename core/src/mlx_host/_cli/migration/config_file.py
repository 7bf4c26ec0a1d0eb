"""Converts configuration files of mlx-openai-server to the tables of mlx-host.toml."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_host._cli.migration.table import BACKENDS, DEFAULT_TYPE, FILE_ONLY, MODEL, SERVER, LegacySetting, convert
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import HostSettings, ModelSettings, closest
from mlx_host.errors import UsageError

SUFFIXES = (".yaml", ".yml")


def load_yaml(path: Path, plugins: Plugins) -> tuple[dict[str, Any], list[str]]:
    """Return the file's tables, and a note for each key without effect; UsageError if it cannot be read."""
    # Imported here: only needed for these files.
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"--config {str(path)!r}: no such file.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error)
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            mark = error.problem_mark
            reason = f"{error.problem} (at line {mark.line + 1}, column {mark.column + 1})"
        # PyYAML's messages have several lines.
        raise UsageError(f"--config {str(path)!r} cannot be read: {' '.join(reason.split())}.") from error
    server = raw.get("server") or {} if isinstance(raw, dict) else None
    models = raw.get("models") if isinstance(raw, dict) else None
    tables = [server, *models] if isinstance(models, list) else []
    if not models or not all(isinstance(table, dict) for table in tables):
        raise UsageError(
            f"--config {str(path)!r} must have a list of tables `models`, and optionally a table `server`."
        )
    file, notes = _read_table(tables[0], SERVER, HostSettings.model_fields, f"server in {str(path)!r}")
    file["models"] = []
    for number, table in enumerate(tables[1:], start=1):
        model, more = _read_model(table, plugins, f"model number {number} of {str(path)!r}")
        # The log level is a setting of the server.
        file.update({"log_level": model.pop("log_level")} if "log_level" in model else {})
        file["models"].append(model)
        notes += more
    return file, notes


def _read_model(table: Mapping[str, Any], plugins: Plugins, where: str) -> tuple[dict[str, Any], list[str]]:
    kind = table.get("model_type", DEFAULT_TYPE)
    if not isinstance(kind, str) or kind not in BACKENDS:
        raise UsageError(f"{where}: model_type {kind!r} is not one of {', '.join(map(repr, BACKENDS))}.")
    options = plugins.backend(BACKENDS[kind]).options
    fields = {*ModelSettings.model_fields, *options.model_fields, "log_level"}
    return _read_table({**table, "model_type": kind}, (*MODEL, *FILE_ONLY), fields, where)


def _read_table(
    table: Mapping[str, Any], known: Sequence[LegacySetting], fields: Collection[str], where: str
) -> tuple[dict[str, Any], list[str]]:
    by_key = {setting.key: setting for setting in known}
    for key in table:
        if key not in by_key:
            close = closest(str(key), by_key)
            hint = f"did you mean {close!r}?" if close else f"available: {', '.join(sorted(by_key))}"
            raise UsageError(f"{where} has an unknown key {key!r} ({hint}).")
    found, notes = convert(table, by_key, fields)
    return found, [f"{key} of {where} {note}" for key, note in notes]

"""Translates command lines of mlx-openai-server to `mlx-host run`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import rich_click as click

from mlx_host._cli.flags import SettingOption
from mlx_host._cli.migration.config_file import SUFFIXES
from mlx_host._cli.migration.table import BACKENDS, DEFAULT_TYPE, MODEL, SERVER, convert
from mlx_host._settings import flag_name
from mlx_host.errors import UsageError

COMMAND = "launch"

_SETTINGS = {setting.name: setting for setting in (*SERVER, *MODEL)}
_MODEL_TYPE = "model_type"


@dataclass(frozen=True)
class Translation:
    """The arguments of `mlx-host run`, and a note for each flag that has no effect."""

    arguments: list[str]
    notes: list[str]


def type_flag() -> click.Option:
    """Create the flag `--model-type` for the help text; the translation replaces it with `--backend`."""
    return SettingOption(
        [_MODEL_TYPE, "--model-type"],
        type=click.Choice(list(BACKENDS)),
        metavar="TYPE",
        default=None,
        expose_value=False,
        help=f"The backend by its name in mlx-openai-server: {', '.join(BACKENDS)}. With this flag, or with "
        "--model-path and without --backend, the other flags of mlx-openai-server are accepted too.",
        panel="Model",
        variable=None,
        advanced=True,
    )


def translate(
    arguments: Sequence[str],
    *,
    takes_value: Callable[[str], bool],
    fields_of: Callable[[str | None, Path | None], Collection[str]],
    backend: str | None,
    config: Path | None,
    legacy: bool,
) -> Translation:
    """Translate `arguments` if they are those of mlx-openai-server; return others unchanged.

    They are translated if `legacy` is true, `--model-type` is given, the configuration file is YAML, or `--model-path`
    is given without a file; but never if `--backend` is given. `backend` and `config` are the values from the
    environment. `takes_value(flag)` returns whether a flag of `mlx-host run` has a value, and
    `fields_of(backend, config)` the names of all settings of the backend, or of the backends in the file.
    """
    tokens = list(_split(arguments, lambda flag: takes_value(flag) or _takes_value(flag)))
    given = {flag: value for flag, value, _ in tokens if flag}
    model_type = given.get("--model-type")
    if model_type is not None:
        if model_type not in BACKENDS:
            raise UsageError(f"--model-type: {model_type!r} is not one of {', '.join(map(repr, BACKENDS))}.")
        if "--backend" in given:
            raise UsageError("--backend and --model-type both set the backend; use --backend alone.")
    if file := given.get("--config"):
        config = Path(file)
    if "--backend" in given or not (
        legacy
        or model_type is not None
        or (config.suffix in SUFFIXES if config is not None else "--model-path" in given)
    ):
        return Translation(list(arguments), [])
    name = BACKENDS[model_type] if model_type is not None else backend
    if name is None and config is None:
        name = BACKENDS[DEFAULT_TYPE]
    fields = fields_of(name, config)
    values: dict[str, object] = {}
    kept: list[str] = []
    for flag, value, raw in tokens:
        setting = _SETTINGS.get(flag.removeprefix("--").replace("-", "_")) if flag.startswith("--") else None
        if setting is None or setting.name in fields or setting.name == "model_path":
            kept += raw
        elif setting.kind is not bool and value is None:
            raise UsageError(f"{flag} requires an argument.")
        else:
            values[setting.name] = True if setting.kind is bool else value
    found, notes = convert(values, _SETTINGS, fields)
    if model_type is None and backend is None and name is not None:
        found["backend"] = name
    # The flags of mlx-host come later, and override.
    translated = [f"{flag_name(field)}={value}" for field, value in found.items()]
    return Translation([*translated, *kept], [f"{flag_name(name)} {note}" for name, note in notes])


def _takes_value(flag: str) -> bool:
    setting = _SETTINGS.get(flag.removeprefix("--").replace("-", "_"))
    return setting is not None and setting.kind is not bool


def _split(
    arguments: Sequence[str], takes_value: Callable[[str], bool]
) -> Iterator[tuple[str, str | None, Sequence[str]]]:
    """Yield each flag ("" for a positional argument), its value, and the original arguments."""
    rest = list(arguments)
    while rest:
        first = rest.pop(0)
        if first == "--":
            yield "", None, [first, *rest]
            return
        if not first.startswith("-"):
            yield "", None, [first]
            continue
        flag, equals, value = first.partition("=")
        if equals:
            yield flag, value, [first]
        elif takes_value(flag) and rest:
            value = rest.pop(0)
            yield flag, value, [first, value]
        else:
            yield flag, None, [first]

"""Creates command-line flags from the fields of a settings schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import rich_click as click

from mlx_host._completion import COMPLETERS
from mlx_host._settings import SettingNames, flag_name, is_list, is_table, plain, variable_name

TYPES: Mapping[Any, click.ParamType[Any]] = {
    int: click.INT,
    float: click.FLOAT,
    Path: click.Path(path_type=Path),
}


class KeyValue(click.ParamType[tuple[str, str]]):
    """KEY=VALUE."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, text


def flags(names: SettingNames[Any], panel: str, defaults: Mapping[str, Any] = {}) -> Iterator[click.Option]:
    """Create an option for each field.

    The options have no default, so that environment variables and the configuration file apply. `defaults` replace the
    fields' defaults in the help texts.
    """
    for field in names.schema.model_fields:
        kind = plain(names.schema.model_fields[field].annotation)
        spelled = [
            flag_name(name) if negation is None else f"{flag_name(name)}/{flag_name(negation)}"
            for name, negation in zip(names.names(field), names.negations(field), strict=True)
        ]
        yield click.RichOption(
            [names.name(field), *spelled],
            **_value(kind),
            default=None,
            shell_complete=COMPLETERS.get(names.name(field)),
            help=_help(names, field, kind, defaults),
            panel=panel,
        )


def given(params: Mapping[str, Any], names: SettingNames[Any]) -> dict[str, Any]:
    """Return the values that were given on the command line, by field."""
    found: dict[str, Any] = {}
    for field, info in names.schema.model_fields.items():
        value = params.get(names.name(field))
        if value is None or value == ():
            continue
        if isinstance(value, tuple):
            found[field] = dict(value) if is_table(plain(info.annotation)) else list(value)
        else:
            found[field] = value
    return found


def _value(kind: Any) -> dict[str, Any]:
    """Return the arguments of click.Option for a flag of this type."""
    if kind is bool:
        return {"is_flag": True}
    if get_origin(kind) is Literal:
        return {"type": click.Choice([str(choice) for choice in get_args(kind)], case_sensitive=False)}
    if is_table(kind):
        return {"type": KeyValue(), "multiple": True, "metavar": "KEY=VALUE"}
    if is_list(kind):
        member = TYPES.get(plain(next(iter(get_args(kind)), str)), click.STRING)
        # The schema converts the members: a field may accept several of them in one string.
        return {"type": click.STRING, "multiple": True, "metavar": member.name.upper()}
    return {"type": TYPES.get(kind, click.STRING)}


def _help(names: SettingNames[Any], field: str, kind: Any, defaults: Mapping[str, Any]) -> str:
    info = names.schema.model_fields[field]
    text = info.description or ""
    own = None if info.is_required() or info.default_factory else info.default
    default = defaults.get(field, own)
    negation = names.negations(field)[0]
    if default is True:
        text += f" [default: on; off with {flag_name(negation)}]" if negation else " [default: on]"
    elif default not in (None, False, "", (), [], {}):
        text += f" [default: {default}]"
    form = " as JSON" if is_table(kind) else ", with commas" if is_list(kind) else ""
    return f"{text} [env: {variable_name(names.name(field))}{form}]".lstrip()

"""Creates command-line flags from the fields of a settings schema."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import rich_click as click
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from rich_click.rich_panel import RichOptionPanel

from mlx_host._completion import COMPLETERS
from mlx_host._settings import SettingNames, flag_name, is_list, is_table, plain, variable_name

# Shorter than click's "INTEGER", which leaves more room for the help texts.
METAVARS: Mapping[Any, str] = {int: "INT", float: "FLOAT", Path: "PATH"}
# The key of `ctx.meta` that is set by `--help-all`.
HELP_ALL = "mlx_host.help_all"
MAX_CHOICES_COLUMNS = 24
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


class OptionPanel(RichOptionPanel):
    """A panel of options that never breaks a flag or a variable."""

    def get_table(self, command: Any, ctx: Any, formatter: Any) -> Table:
        table = super().get_table(command, ctx, formatter)
        table.columns[0].no_wrap = True
        return table


class SettingOption(click.RichOption):
    """The flag of a setting; `variable` describes its environment variable for `--help-all`.

    `advanced` ones are only in `--help-all`.
    """

    def __init__(self, *args: Any, variable: str | None, advanced: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.variable = variable
        self.advanced = advanced

    def get_rich_table_row(
        self, ctx: click.RichContext, formatter: click.RichHelpFormatter, panel: Any = None
    ) -> list[RenderableType | None]:
        """Return the flag with its metavar and the help text; `--help-all` adds other names and the variable."""
        config = formatter.config
        metavar = "" if self.is_flag else self.make_metavar(ctx)
        flag = Text.assemble((self.opts[0], config.style_option), " ", (metavar, config.style_metavar), no_wrap=True)
        if ctx.meta.get(HELP_ALL):
            for name in self.opts[1:]:
                flag.append(f"\n{name}", config.style_option)
            if self.variable is not None:
                flag.append(f"\n{self.variable}", config.style_option_envvar)
        return [flag, super().get_rich_help(ctx, formatter)]


def flags(
    names: SettingNames[Any],
    panel: str,
    defaults: Mapping[str, Any] = {},
    common: Container[str] | None = None,
) -> Iterator[SettingOption]:
    """Create an option for each field; if `common` is given, all other fields are advanced.

    The options have no default, so that environment variables and the configuration file apply. `defaults` replace the
    fields' defaults in the help texts.
    """
    for field in names.schema.model_fields:
        kind = plain(names.schema.model_fields[field].annotation)
        spelled = [
            flag_name(name) if negation is None else f"{flag_name(name)}/{flag_name(negation)}"
            for name, negation in zip(names.names(field), names.negations(field), strict=True)
        ]
        yield SettingOption(
            [names.name(field), *spelled],
            **_value(kind),
            default=None,
            shell_complete=COMPLETERS.get(names.name(field)),
            help=_help(names, field, kind, defaults),
            panel=panel,
            variable=variable_name(names.name(field)),
            advanced=common is not None and field not in common,
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
        choices = [str(choice) for choice in get_args(kind)]
        shown = {"metavar": "NAME"} if len("|".join(choices)) > MAX_CHOICES_COLUMNS else {}
        return {"type": click.Choice(choices, case_sensitive=False), **shown}
    if is_table(kind):
        return {"type": KeyValue(), "multiple": True, "metavar": "KEY=VALUE"}
    if is_list(kind):
        member_kind = plain(next(iter(get_args(kind)), str))
        # The schema converts the members: a field may accept several of them in one string.
        return {"type": click.STRING, "multiple": True, "metavar": METAVARS.get(member_kind, "TEXT")}
    return {"type": TYPES.get(kind, click.STRING), "metavar": METAVARS.get(kind, "TEXT")}


def _help(names: SettingNames[Any], field: str, kind: Any, defaults: Mapping[str, Any]) -> str:
    info = names.schema.model_fields[field]
    text = info.description or ""
    own = None if info.is_required() or info.default_factory else info.default
    default = defaults.get(field, own)
    if default is True:
        text += " [default: on]"
    elif default not in (None, False, "", (), [], {}):
        text += f" [default: {default}]"
    if get_origin(kind) is Literal and "metavar" in _value(kind):
        text += f" [{', '.join(str(choice) for choice in get_args(kind))}]"
    return text.lstrip()

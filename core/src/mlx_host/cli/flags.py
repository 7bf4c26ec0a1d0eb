"""Makes command-line flags of a schema's fields, so that a setting is declared once."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import rich_click as click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mlx_host.settings import ENV_PREFIX

TYPES: Mapping[Any, click.ParamType[Any]] = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
    Path: click.Path(path_type=Path),
}
# Other spellings of a flag.
ALIASES = {"model": ("--model-path",)}


class KeyValue(click.ParamType[tuple[str, str]]):
    """KEY=VALUE."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, text


def flag_name(field: str) -> str:
    """The flag of a field."""
    return f"--{field.replace('_', '-')}"


def flags(schema: type[BaseModel], panel: str) -> Iterator[click.Option]:
    """Make an option for each field; its default is "not given", so that other layers can decide."""
    for name, field in schema.model_fields.items():
        yield _option(name, field, panel)


def given(params: Mapping[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """Pick what was given on the command line for a schema's fields."""
    found: dict[str, Any] = {}
    for name in schema.model_fields:
        value = params.get(name)
        if value is None or value == ():
            continue
        found[name] = dict(value) if isinstance(value, tuple) and isinstance(value[0], tuple) else value
        if isinstance(found[name], tuple):
            found[name] = list(found[name])
    return found


def _option(name: str, field: FieldInfo, panel: str) -> click.Option:
    kind = _plain(field.annotation)
    spelled = [flag_name(name), *ALIASES.get(name, ())]
    settings: dict[str, Any] = {
        "help": _help(name, field),
        "default": None,
        "show_envvar": False,
        "panel": panel,
    }
    if kind is bool:
        spelled = [f"{flag_name(name)}/--no-{name.replace('_', '-')}"] if field.default is True else spelled
        settings["is_flag"] = True
    elif get_origin(kind) is Literal:
        settings["type"] = click.Choice([str(choice) for choice in get_args(kind)])
    elif get_origin(kind) is dict:
        settings |= {"type": KeyValue(), "multiple": True, "metavar": "KEY=VALUE"}
    elif get_origin(kind) in (list, tuple):
        settings |= {"type": TYPES.get(get_args(kind)[0], click.STRING), "multiple": True}
    else:
        settings["type"] = TYPES.get(kind, click.STRING)
    return click.RichOption([name, *spelled], **settings)


def _plain(annotation: Any) -> Any:
    """Look through `X | None` and Annotated."""
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _plain(members[0]) if len(members) == 1 else str
    if hasattr(annotation, "__metadata__"):
        return _plain(get_args(annotation)[0])
    return annotation


def _help(name: str, field: FieldInfo) -> str:
    text = field.description or ""
    default = field.get_default(call_default_factory=False)
    if default not in (None, PydanticUndefined, False):
        shown = "on" if default is True else default
        text += f" [default: {shown}]"
    return f"{text} [env: {ENV_PREFIX}{name.upper()}]"

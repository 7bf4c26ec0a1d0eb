"""Makes command-line flags of a schema's fields, so that a setting is declared once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import rich_click as click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mlx_host._settings import ALIASES, flag_name, negation, plain, variable_name

TYPES: Mapping[Any, click.ParamType[Any]] = {
    int: click.INT,
    float: click.FLOAT,
    Path: click.Path(path_type=Path),
}
LISTS = (list, tuple, set, frozenset, Sequence, Set)


class KeyValue(click.ParamType[tuple[str, str]]):
    """KEY=VALUE."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, text


def flags(schema: type[BaseModel], panel: str, defaults: Mapping[str, Any] = {}) -> Iterator[click.Option]:
    """Make an option for each field; its default is "not given", so that other layers can decide.

    `defaults` are shown in place of the fields' own.
    """
    for name, field in schema.model_fields.items():
        kind = plain(field.annotation)
        spelled = [flag_name(spelling) for spelling in (name, *ALIASES.get(name, ()))]
        settings = _value(kind)
        off = negation(name, schema) if kind is bool else None
        if off is not None:
            spelled[0] += f"/{flag_name(off)}"
        yield click.RichOption(
            [name, *spelled], **settings, default=None, help=_help(name, field, kind, off, defaults), panel=panel
        )


def given(params: Mapping[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """Pick what was given on the command line for a schema's fields."""
    found: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        value = params.get(name)
        if value is None or value == ():
            continue
        if isinstance(value, tuple):
            found[name] = dict(value) if _is_table(plain(field.annotation)) else list(value)
        else:
            found[name] = value
    return found


def _is_table(kind: Any) -> bool:
    return (get_origin(kind) or kind) in (dict, Mapping)


def _is_list(kind: Any) -> bool:
    return (get_origin(kind) or kind) in LISTS


def _value(kind: Any) -> dict[str, Any]:
    """Tell click what a flag of this type takes."""
    if kind is bool:
        return {"is_flag": True}
    if get_origin(kind) is Literal:
        return {"type": click.Choice([str(choice) for choice in get_args(kind)], case_sensitive=False)}
    if _is_table(kind):
        return {"type": KeyValue(), "multiple": True, "metavar": "KEY=VALUE"}
    if _is_list(kind):
        member = TYPES.get(plain(next(iter(get_args(kind)), str)), click.STRING)
        # A field may take several members in one text, so it is for the field to read them.
        return {"type": click.STRING, "multiple": True, "metavar": member.name.upper()}
    return {"type": TYPES.get(kind, click.STRING)}


def _help(name: str, field: FieldInfo, kind: Any, off: str | None, defaults: Mapping[str, Any]) -> str:
    text = field.description or ""
    own = None if field.is_required() or field.default_factory else field.default
    default = defaults.get(name, own)
    if default is True:
        text += f" [default: on; off with {flag_name(off)}]" if off else " [default: on]"
    elif default not in (None, False, "", (), [], {}):
        text += f" [default: {default}]"
    as_json = " as JSON" if _is_table(kind) or _is_list(kind) else ""
    return f"{text} [env: {variable_name(name)}{as_json}]".lstrip()

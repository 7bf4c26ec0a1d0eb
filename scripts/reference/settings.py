"""Generates the reference of settings: those of the server, of models, of APIs and of backends."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from mlx_host._settings import (
    SettingNames,
    api_names,
    flag_name,
    is_list,
    is_table,
    option_names,
    plain,
    variable_name,
)
from mlx_host.api import ApiSettings
from pydantic.fields import FieldInfo

from scripts.markdown import escaped
from scripts.reference.installed import NOT_OURS, backends, plugins


def settings(names: SettingNames[Any], anchor: str = "") -> str:
    """Return a heading for each setting, with its description, type, default, variable and key.

    `anchor` precedes the name in the headings' anchors, which are unique on a page.
    """
    return "\n\n".join(_setting(field, names, anchor) for field in names.schema.model_fields)


def _setting(name: str, names: SettingNames[Any], anchor: str = "") -> str:
    field = names.schema.model_fields[name]
    kind = plain(field.annotation)
    flag = names.name(name)
    (opposite, *_) = names.negations(name)
    facts = {
        "Type": _kind(kind),
        "Default": _default(field, kind),
        "Opposite": f"`{flag_name(opposite)}`" if opposite else "",
        "Variable": f"`{variable_name(flag)}`",
    }
    lines = [f"{fact}: {value}" for fact, value in facts.items() if value]
    heading = f"### `{flag_name(flag)}` {{ #{anchor}{flag.replace('_', '-')} }}"
    return "\n\n".join((heading, escaped(field.description or ""), " · ".join(lines) + "\n{ .facts }"))


def api_settings() -> str:
    """Return the settings of the APIs in this repository, with `port`, which all have, only once."""
    apis = plugins().apis
    port = ApiSettings.model_fields["port"].description or ""
    parts = [
        "### `--NAME-port` { #name-port }",
        port,
        "Type: int · Variable: `MLX_HOST_NAME_PORT`\n{ .facts }",
    ]
    for api, found in sorted(apis.found.items()):
        names = api_names(api, found.settings)
        own = (field for field in names.schema.model_fields if field != "port")
        if apis.owners[api].distribution not in NOT_OURS:
            parts += [_setting(field, names) for field in own]
    return "\n\n".join(parts)


def _default(field: FieldInfo, kind: Any) -> str:
    if field.is_required() or field.default_factory is not None or field.default in (None, ""):
        return ""
    if kind is bool:
        return "on" if field.default else "off"
    return f"`{field.default}`" if field.default not in ([], (), {}) else ""


def _kind(kind: Any) -> str:
    if kind is bool:
        return "switch"
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in choices)
    if is_table(kind):
        return "KEY=VALUE, repeated"
    if is_list(kind):
        return f"{_kind(plain(choices[0])) if choices else 'str'}, repeated"
    return str((get_origin(kind) or kind).__name__).lower()


def options() -> str:
    parts = []
    for name, backend in backends().items():
        supported_requests = ", ".join(f"`{kind.__name__}`" for kind in backend.supported_requests)
        own = ", ".join(f"`{flag_name(key)} {value}`" for key, value in backend.settings.items())
        parts += [
            f"## {name}",
            f"From the package `{plugins().backends.owners[name].distribution}`: {backend.summary}. "
            f"It serves {supported_requests}." + (f" Its defaults for model settings: {own}." if own else ""),
            settings(option_names(backend.options), f"{name}-"),
        ]
    return "\n\n".join(parts)

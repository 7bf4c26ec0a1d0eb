"""Validates what plugins register, and returns the names under which it is registered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from mlx_host._settings import SettingNames, api_names, check_fields, check_option_names, option_names
from mlx_host.api import Api, ApiSettings
from mlx_host.backend import Backend, Options
from mlx_host.errors import PluginError
from mlx_host.parsing import MarkupParser, Parser
from mlx_host.requests import Request

_API_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")

T = TypeVar("T")


def parser_key(name: str) -> str:
    """Normalize a parser's name: case-insensitive, with `-` and `_` equivalent."""
    return name.lower().replace("-", "_")


def backend_names(backend: Backend[Any]) -> Iterable[str]:
    return (backend.name,)


def parser_names(parser: type[Parser]) -> Iterable[str]:
    return dict.fromkeys(parser_key(name) for name in (parser.name, *parser.aliases))


def api_name(api: Api[Any]) -> Iterable[str]:
    return (api.name,)


def by_name(kind: str, things: Iterable[T], names: Callable[[T], Iterable[str]]) -> list[tuple[str, T]]:
    """Return (name, thing) for every name of every thing; PluginError if one plugin uses a name twice."""
    named = [(name, thing) for thing in things for name in names(thing)]
    for name, count in Counter(name for name, _ in named).items():
        if count > 1:
            raise PluginError(f"registers {kind} {name!r} twice")
    return named


def check_backend(thing: Any) -> None:
    """Raise PluginError unless a thing is a valid backend."""
    if not isinstance(thing, Backend):
        raise PluginError(f"register_backends returned {thing!r}, expected a Backend")
    if not (isinstance(thing.options, type) and issubclass(thing.options, Options)):
        raise PluginError(f"options of backend {thing.name!r} must be a subclass of Options, not {thing.options!r}")
    _check_settings(f"backend {thing.name!r}", option_names(thing.options))


def check_parser(thing: Any) -> None:
    """Raise PluginError unless a thing is a valid parser class."""
    if not (isinstance(thing, type) and issubclass(thing, Parser)):
        raise PluginError(f"register_parsers returned {thing!r}, expected a subclass of Parser")
    if isinstance(thing.aliases, str):
        raise PluginError(f"aliases of parser {thing.name!r} must be a tuple of names, not {thing.aliases!r}")
    if issubclass(thing, MarkupParser) and bool(thing.think_open) != bool(thing.think_close):
        raise PluginError(f"parser {thing.name!r} must define both think_open and think_close, or neither")


def check_api(thing: Any) -> None:
    """Raise PluginError unless a thing is a valid API."""
    if not isinstance(thing, Api):
        raise PluginError(f"register_apis returned {thing!r}, expected an Api")
    if not (isinstance(thing.name, str) and _API_NAME.fullmatch(thing.name)):
        raise PluginError(f"{thing.name!r} is not a valid API name; use lower-case letters, digits and hyphens")
    what = f"API {thing.name!r}"
    if not (isinstance(thing.settings, type) and issubclass(thing.settings, ApiSettings)):
        raise PluginError(f"settings of {what} must be a subclass of ApiSettings, not {thing.settings!r}")
    # A string is also a sequence of strings.
    if isinstance(thing.prefixes, str) or not all(prefix.startswith("/") for prefix in thing.prefixes):
        raise PluginError(f"prefixes of {what} must be a tuple of paths that begin with '/', not {thing.prefixes!r}")
    if not all(isinstance(kind, type) and issubclass(kind, Request) for kind in thing.request_types):
        raise PluginError(f"request_types of {what} must be subclasses of Request, not {thing.request_types!r}")
    for legacy, field in thing.settings.legacy_names.items():
        if field not in thing.settings.model_fields:
            raise PluginError(f"{what}: the legacy name {legacy!r} maps to {field!r}, which is not a setting")
    _check_settings(what, api_names(thing.name, thing.settings))


def _check_settings(what: str, names: SettingNames[Any]) -> None:
    problem = check_fields(names.schema) or check_option_names(names)
    if problem is not None:
        raise PluginError(f"{what}: {problem}")


def clash(what: str, names: SettingNames[Any], other: str, others: SettingNames[Any]) -> str | None:
    """Describe the first name that two schemas both use for a setting; None if there is no such name."""
    taken = others.all()
    for name, field in names.all().items():
        if name in taken:
            return f"setting {field!r} of {what} and setting {taken[name]!r} of {other} share the name {name!r}"
    return None

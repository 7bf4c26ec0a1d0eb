"""Generates the reference of the plugin contract: errors, hooks, requests, events and public modules."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any, get_args

import mlx_host
from mlx_host import hookspecs
from mlx_host.errors import MlxHostError, RequestError

from scripts.markdown import table, text_of


def errors() -> list[type[MlxHostError]]:
    """Return every error class of core and of the installed plugins, base classes first."""
    for module in pkgutil.walk_packages(mlx_host.__path__, "mlx_host."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[MlxHostError]] = [MlxHostError]
    for error in found:
        found += [child for child in error.__subclasses__() if child not in found]
    return [error for error in found if error.__module__.startswith("mlx_host")]


def error_table() -> str:
    rows = []
    for error in sorted(errors(), key=lambda e: (not issubclass(e, RequestError), getattr(e, "status", 0), e.__name__)):
        wire = (
            (str(error.status), f"`{error.type}`", f"`{error.code}`" if error.code else "")
            if issubclass(error, RequestError)
            else ("", "", "")
        )
        rows.append((f"`{error.__name__}`", *wire, text_of(error).splitlines()[0]))
    return table(("error", "status", "`type`", "`code`", ""), rows)


def hooks() -> dict[str, Callable[..., Any]]:
    """Each hook by name, in the order of the file."""
    return {
        name: thing
        for name, thing in vars(hookspecs).items()
        if inspect.isfunction(thing) and hasattr(thing, f"{hookspecs.GROUP}_spec")
    }


def hook_list() -> str:
    parts = []
    for name, hook in hooks().items():
        signature = str(inspect.signature(hook)).replace("'", "")
        parts += [f"## {name}", f"```text\n{name}{signature}\n```", text_of(hook)]
    return "\n\n".join(parts)


def module_reference(name: str) -> str:
    """Every public name of a module: its signature, docstring, fields and methods."""
    module = importlib.import_module(name)
    return "\n\n".join(_entry(public, getattr(module, public)) for public in module.__all__)


def _entry(name: str, thing: Any) -> str:
    if inspect.isclass(thing):
        bases = [base.__name__ for base in thing.__bases__ if base.__name__ not in ("object", "Generic", "Protocol")]
        parts = [_class_heading(name, bases), text_of(thing)]
        if dataclasses.is_dataclass(thing):
            parts.append(table(("field", "type", "default"), map(_field, dataclasses.fields(thing))))
        parts += [_method(each, member) for each, member in vars(thing).items() if not each.startswith("_")]
    elif inspect.isfunction(thing):
        parts = [f"## {name}", f"```text\n{_signature(name, thing)}\n```", text_of(thing)]
    else:
        shown = " | ".join(each.__name__ for each in get_args(thing) if hasattr(each, "__name__")) or repr(thing)
        parts = [f"## {name}", f"```text\n{name} = {shown}\n```"]
    return "\n\n".join(filter(None, parts))


def _class_heading(name: str, bases: Iterable[str]) -> str:
    """Return a heading whose anchor is the name alone."""
    listed = ", ".join(bases)
    return f"## {name} ({listed}) {{ #{name.lower()} }}" if listed else f"## {name}"


def _method(name: str, member: Any) -> str:
    if isinstance(member, property):
        return f"### {name}\n\n{text_of(member)}" if text_of(member) else ""
    function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    if not inspect.isfunction(function):
        return ""
    keyword = "async " if inspect.iscoroutinefunction(function) else ""
    return f"### {name}\n\n```text\n{keyword}{_signature(name, function)}\n```\n\n{text_of(function)}"


def _signature(name: str, function: Callable[..., Any]) -> str:
    signature = f"{name}{inspect.signature(function)}".replace("'", "")
    return signature if len(signature) <= 80 else signature.replace(", ", ",\n    ").replace("(", "(\n    ", 1)


def dataclasses_of(module: Any) -> dict[str, type]:
    """The public dataclasses of a module by name."""
    return {
        name: thing
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__ and dataclasses.is_dataclass(thing)
    }


def dataclass_list(module: Any) -> str:
    parts = []
    for name, thing in dataclasses_of(module).items():
        parents = [base.__name__ for base in thing.__bases__ if base is not object]
        parts += [_class_heading(name, parents), text_of(thing)]
        own = [field for field in dataclasses.fields(thing) if field.name in thing.__annotations__]
        if own:
            parts.append(table(("field", "type", "default"), map(_field, own)))
    return "\n\n".join(parts)


def _field(field: dataclasses.Field[Any]) -> tuple[str, str, str]:
    missing = dataclasses.MISSING
    if field.default is not missing:
        default = f"`{field.default!r}`"
    else:
        default = "" if field.default_factory is missing else f"`{field.default_factory()!r}`"
    return f"`{field.name}`", f"`{field.type}`", default

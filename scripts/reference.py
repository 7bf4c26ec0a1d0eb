"""Generates the reference sections of the documentation from the code; scripts/build_docs.py writes them to the pages.

`<!-- reference: NAME -->` on a page marks where the text of SECTIONS[NAME] is inserted.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

import mlx_host
import rich_click
from click.testing import CliRunner
from mlx_host import events, hookspecs, requests
from mlx_host._apis.metrics import routes
from mlx_host._cli import build, discover
from mlx_host._host import Host, ModelPool
from mlx_host._http.app import application, mount
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import (
    HOST,
    MODEL,
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
from mlx_host.backend import Backend
from mlx_host.errors import MlxHostError, RequestError
from mlx_host.parsing import Parser
from prometheus_client import CollectorRegistry
from pydantic.fields import FieldInfo

from scripts import overview
from scripts.markdown import escaped, table, text_of

MARKER = re.compile(r"<!-- reference: (.+?) -->")
# Installed by the tests, and not documented.
NOT_OURS = ("mlx-host-scripted", "mlx-host-echo")


def expand_markers(markdown: str) -> str:
    """Replace every marker of a page with its section; raises KeyError for an unknown name."""
    return MARKER.sub(lambda found: section(found[1]), markdown)


def section(name: str) -> str:
    """Generate one section; raises KeyError for an unknown name."""
    kind, _, rest = name.partition(" ")
    return SECTIONS[kind](rest) if rest else SECTIONS[kind]()


@cache
def plugins() -> Plugins:
    return discover()


# Settings


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


def backends() -> dict[str, Backend[Any]]:
    """The backends of this repository by name."""
    found = plugins().backends
    return {name: found.found[name] for name in sorted(found.found) if found.owners[name].distribution not in NOT_OURS}


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


# The command line


@cache
def help_of(*args: str) -> str:
    result = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(
        build(plugins()), [*args, "--help"], prog_name="mlx-host", terminal_width=80
    )
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.strip("\n").splitlines())


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the path of each command except hidden ones, groups before their commands."""

    def walk(group: rich_click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, command in sorted(group.commands.items()):
            if command.hidden:
                continue
            yield (*path, name)
            if isinstance(command, rich_click.Group):
                yield from walk(command, (*path, name))

    yield ()
    yield from walk(build(plugins()), ())


def command_line() -> str:
    parts = []
    for path in commands():
        parts += [f"## {' '.join(('mlx-host', *path))}", f"```text\n{help_of(*path)}\n```"]
    return "\n\n".join(parts)


# The wire


@cache
def openapi() -> Mapping[str, Any]:
    """The OpenAPI document of all APIs."""
    host = Host(plugins(), ModelPool.empty(), keep_alive=0)
    found = plugins().apis
    mounted = [
        mount(api, str(found.owners[name]), host, api.settings())
        for name, api in found.found.items()
        if found.owners[name].distribution not in NOT_OURS
    ]
    return application(mounted).openapi()


def endpoints() -> dict[str, Mapping[str, Any]]:
    """The OpenAPI description of each endpoint, by METHOD /path."""
    return {
        f"{method.upper()} {path}": {**description, "document": openapi()}
        for path, methods in openapi()["paths"].items()
        for method, description in methods.items()
    }


def fields(endpoint: str) -> str:
    """The fields of an endpoint's body."""
    operation = endpoints()[endpoint]
    content = operation["requestBody"]["content"]
    schema = _resolved(next(iter(content.values()))["schema"], operation["document"])
    required = schema.get("required", ())
    names = sorted(schema["properties"], key=lambda name: (name not in required, name))
    return table(
        ("field", "takes"),
        (
            (f"`{name}`" + (" (required)" if name in required else ""), _takes(schema["properties"][name]))
            for name in names
        ),
    )


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    ref = schema.get("$ref")
    return document["components"]["schemas"][ref.rpartition("/")[2]] if ref else schema


def _takes(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("anyOf", [schema])
    names = [_type(kind) for kind in kinds if kind.get("type") != "null"]
    return " or ".join(dict.fromkeys(names))


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return "object"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind == "array" and "items" in schema:
        return f"list of {_takes(schema['items'])}"
    bounds = [
        f"{word} {schema[key]:g}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema and abs(schema[key]) < 2**31 - 1
    ]
    return " ".join((kind, *bounds))


def response_example(endpoint: str) -> str:
    """Return the example of a response as a block; `endpoint` is METHOD PATH, or METHOD PATH STATUS."""
    method, path, *status = endpoint.split()
    response = endpoints()[f"{method} {path}"]["responses"][status[0] if status else "200"]
    return f"```json\n{json.dumps(response['content']['application/json']['example'], indent=2)}\n```"


def metric_list() -> str:
    registry = CollectorRegistry()
    routes.RequestCounters(registry)
    registry.register(routes.ModelCollector(Host(plugins(), ModelPool.empty(), keep_alive=0)))
    rows = sorted((metric.name, metric.type, metric.documentation) for metric in registry.collect())
    return table(
        ("metric", "kind", ""),
        ((f"`{name}{'_total' if kind == 'counter' else ''}`", kind, text) for name, kind, text in rows),
    )


# The contract


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


def parsers() -> str:
    found = plugins().parsers
    families = sorted(set(found.found.values()), key=lambda parser: parser.name)
    return table(
        ("parser", "aliases", "extracts", "forced calls"),
        (
            (
                f"`{family.name}`",
                ", ".join(f"`{alias}`" for alias in family.aliases),
                family.description,
                "yes" if family.grammar is not Parser.grammar else "no",
            )
            for family in families
        ),
    )


SECTIONS: Mapping[str, Callable[..., str]] = {
    "server-settings": lambda: settings(HOST),
    "model-settings": lambda: settings(MODEL),
    "api-settings": api_settings,
    "options": options,
    "commands": command_line,
    "fields": fields,
    "response": response_example,
    "metrics": metric_list,
    "errors": error_table,
    "hooks": hook_list,
    "module": module_reference,
    "requests": lambda: dataclass_list(requests),
    "events": lambda: dataclass_list(events),
    "parsers": parsers,
    "plugins": lambda: overview.plugin_directory(plugins(), NOT_OURS),
    "requests-of-backends": lambda: overview.request_matrix(plugins(), backends()),
    "release-notes": overview.release_notes,
}

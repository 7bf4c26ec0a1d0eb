"""`mlx-host plugins`: the installed plugins, what each provides, and those that were skipped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import Any

import rich_click as click
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlx_host._plugins.manager import Plugins
from mlx_host._plugins.registry import Registry
from mlx_host._settings import api_names, flag_name

# Descriptions of the hooks; what plugins register through other hooks is listed by name.
HOOKS = {
    "resolve_source": "model sources",
    "prepare_request": "request preparation",
    "request_finished": "request records",
}
# A plugin with more parsers, commands or APIs is described by their number.
MAX_NAMES = 3


@click.group(name="plugins", invoke_without_command=True)
@click.option("-v", "--verbose", is_flag=True, help="Also list paths, options, settings, parsers and commands.")
@click.option("--json", "as_json", is_flag=True, help="Print the plugins as JSON.")
@click.pass_context
def plugins_group(ctx: click.RichContext, verbose: bool, as_json: bool) -> None:
    """List the installed plugins, one per line, and the skipped plugins with the reason."""
    if ctx.invoked_subcommand is not None:
        return
    plugins: Plugins = ctx.obj
    description = describe(plugins)
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    console = Console()
    if verbose:
        console.print(_table(description["plugins"]))
    else:
        _print_overview(console, description["plugins"])
    for problem in plugins.problems():
        # Not wrapped, so that it can be searched for.
        kind, _, text = problem.partition(": ")
        console.print(Text.assemble((f"{kind}: ", "red"), text), soft_wrap=True)


def _print_overview(console: Console, plugins: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each distribution, wrapped on a terminal, and how to see more."""
    rows = [
        (f"{distribution} {version}", _summary(parts)) for (distribution, version), parts in _distributions(plugins)
    ]
    width = max(len(name) for name, _ in rows)
    lines = [(f"{name:{width}}  {summary}", " " * (width + 2)) for name, summary in rows]
    hint = "`mlx-host plugins -v` lists what each provides, `mlx-host run --backend NAME --help` its options."
    for line, indent in (*lines, ("", ""), (hint, "")):
        click.echo(fill(line, console.width, subsequent_indent=indent) if console.is_terminal else line)


def _summary(parts: Sequence[Mapping[str, Any]]) -> str:
    """Name the backends, APIs, parsers, commands and hooks of one distribution, in a few words."""
    words = [
        # The rest of a summary lists features.
        ": ".join(filter(None, (f"backend {name}", backend["summary"].partition(": ")[0])))
        for plugin in parts
        for name, backend in plugin["backends"].items()
    ]
    for kind, plural in (("API", "apis"), ("parser", "parser_families"), ("command", "commands")):
        names = sorted(name for plugin in parts for name in plugin[plural])
        if len(names) > MAX_NAMES:
            words.append(f"{len(names)} {kind}s")
        elif names:
            words.append(f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}")
    if not words:
        words = [text for hook, text in HOOKS.items() if any(hook in plugin["hooks"] for plugin in parts)]
    return "; ".join(words)


def _distributions(
    plugins: Sequence[Mapping[str, Any]],
) -> list[tuple[tuple[str, str], list[Mapping[str, Any]]]]:
    """Group plugins by the name and version of their distribution, in order."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for plugin in plugins:
        found.setdefault((plugin["distribution"], plugin["version"]), []).append(plugin)
    return sorted(found.items())


def _table(plugins: Sequence[Mapping[str, Any]]) -> Table:
    """Create a table with a row for each distribution."""
    table = Table(show_lines=True)
    for title in ("plugin", "version", "provides"):
        # Folded instead of truncated, so that names and flags can be copied.
        table.add_column(title, overflow="fold")
    for (distribution, version), parts in _distributions(plugins):
        # Text: a plugin's texts may contain Rich markup characters.
        table.add_row(*map(Text, (distribution, version, "\n".join(_lines(parts)))))
    return table


def _lines(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Describe what the plugins of one distribution provide."""
    for kind, plural, settings in (("backend", "backends", "options"), ("API", "apis", "settings")):
        for name, each in ((name, each) for plugin in parts for name, each in plugin[plural].items()):
            yield f"{kind} {name}: {each['summary']}" if each["summary"] else f"{kind} {name}"
            yield from (f"  {path}" for path in each.get("paths", ()))
            if each["flags"]:
                yield f"{settings} {' '.join(each['flags'])}"
    for kind in ("parsers", "commands"):
        names = sorted(name for plugin in parts for name in plugin[kind])
        if names:
            yield f"{kind} {' '.join(names)}"
    hooks = {hook for plugin in parts for hook in plugin["hooks"]}
    yield from (text for hook, text in HOOKS.items() if hook in hooks)


def describe(plugins: Plugins) -> dict[str, Any]:
    """Describe the plugins as JSON values."""
    paths = endpoints(plugins)
    apis = plugins.apis
    rows = [
        {
            "name": info.name,
            "distribution": info.distribution,
            "version": info.version,
            "backends": {
                name: {
                    "summary": backend.summary,
                    "options": list(backend.options.model_fields),
                    "flags": [flag_name(field) for field in backend.options.model_fields],
                }
                for name, backend in plugins.backends.of(info).items()
            },
            "parsers": sorted(plugins.parsers.of(info)),
            "parser_families": sorted({parser.name for parser in plugins.parsers.of(info).values()}),
            "apis": {
                name: {
                    "summary": api.summary,
                    "paths": paths[name],
                    "settings": list(api.settings.model_fields),
                    "flags": [
                        flag_name(api_names(name, api.settings).name(field)) for field in api.settings.model_fields
                    ],
                    "requests": sorted(kind.task for kind in api.request_types),
                }
                for name, api in apis.of(info).items()
            },
            "commands": sorted(name for name, each in plugins.commands.of(info).items() if not each.hidden),
            "hooks": plugins.hooks_of(key),
        }
        for key, info in plugins.loaded.items()
    ]
    skipped = [
        {
            "name": failed.info.name,
            "distribution": failed.info.distribution,
            "version": failed.info.version,
            "reason": failed.reason,
        }
        for failed in plugins.failed
    ]
    kinds: tuple[Registry[Any], ...] = (plugins.backends, plugins.parsers, apis, plugins.commands)
    conflicts = [
        {"kind": registry.kind, "name": name, "by": [str(info) for info in infos]}
        for registry in kinds
        for name, infos in registry.conflicts.items()
    ]
    return {"plugins": rows, "skipped": skipped, "conflicts": conflicts}


def endpoints(plugins: Plugins) -> dict[str, list[str]]:
    """Return the endpoints of each API as "METHOD /path"; a plugin whose API fails is skipped."""
    # Imported here: the web framework is slow to import, and other commands do not need it.
    from mlx_host._host import Host, ModelPool
    from mlx_host._http.app import mount

    host = Host(plugins, ModelPool.empty(), keep_alive=0)
    found = {}
    for name, api in plugins.apis.found.items():
        info = plugins.apis.owners.get(name)
        if info is None:
            # The plugin was skipped because another of its APIs failed.
            continue
        try:
            routes = mount(api, str(info), host, api.settings()).routes
        except ValidationError:
            # The API has required settings.
            found[name] = [f"{prefix}/..." for prefix in api.prefixes]
        except Exception as error:  # noqa: BLE001  a plugin's bug must not hide the others
            plugins.skip(info, f"API {name!r} failed: {type(error).__name__}: {error}")
        else:
            found[name] = [f"{method} {route.path}" for route in routes for method in sorted(route.methods or ())]
    return found

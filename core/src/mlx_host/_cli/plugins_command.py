"""`mlx-host plugins`: what is installed, what it brings, and what is broken; and a place for what makes one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import rich_click as click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlx_host._plugins.manager import Brought, Plugins
from mlx_host._settings import flag_name

# What a plugin brings by implementing a hook; backends, parsers and commands are named one by one.
IN_WORDS = {
    "register_routes": "HTTP endpoints",
    "resolve_source": "model sources",
    "prepare_request": "request preparation",
    "request_finished": "request records",
}


@click.group(name="plugins", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.pass_context
def plugins_group(ctx: click.RichContext, as_json: bool) -> None:
    """List the installed plugins, what each brings, and the broken ones with the reason."""
    if ctx.invoked_subcommand is not None:
        return
    plugins: Plugins = ctx.obj
    if as_json:
        click.echo(json.dumps(describe(plugins), indent=2))
        return
    console = Console()
    console.print(_table(plugins))
    for fault in plugins.faults():
        # In one line, however long: it is searched for.
        console.print(Text.assemble(("broken: ", "red"), fault), soft_wrap=True)


def _table(plugins: Plugins) -> Table:
    """A row for each distribution."""
    brings: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for plugin in describe(plugins)["plugins"]:
        brings.setdefault((plugin["distribution"], plugin["version"]), []).append(plugin)
    table = Table(show_lines=True)
    for title in ("plugin", "version", "brings"):
        # Folded, as half a name or flag cannot be copied.
        table.add_column(title, overflow="fold")
    for (distribution, version), parts in sorted(brings.items()):
        # Text, as what a plugin says of itself is no markup.
        table.add_row(*map(Text, (distribution, version, "\n".join(_in_words(parts)))))
    return table


def _in_words(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the plugins of one distribution bring."""
    words = []
    for name, backend in ((name, backend) for plugin in parts for name, backend in plugin["backends"].items()):
        words.append(f"backend {name}: {backend['summary']}" if backend["summary"] else f"backend {name}")
        if backend["options"]:
            words.append(f"options {' '.join(map(flag_name, backend['options']))}")
    for kind in ("parsers", "commands"):
        names = sorted(name for plugin in parts for name in plugin[kind])
        words += [f"{kind} {' '.join(names)}"] if names else []
    hooks = {hook for plugin in parts for hook in plugin["hooks"]}
    return words + [said for hook, said in IN_WORDS.items() if hook in hooks]


def describe(plugins: Plugins) -> dict[str, Any]:
    """Describe the plugins as JSON values."""
    rows = [
        {
            "name": origin.name,
            "distribution": origin.distribution,
            "version": origin.version,
            "backends": {
                name: {"summary": backend.summary, "options": list(backend.options.model_fields)}
                for name, backend in plugins.backends.of(origin).items()
            },
            "parsers": sorted(plugins.parsers.of(origin)),
            "commands": sorted(plugins.commands.of(origin)),
            "hooks": plugins.hooks_of(key),
        }
        for key, origin in plugins.loaded.items()
    ]
    broken = [
        {"name": b.origin.name, "distribution": b.origin.distribution, "version": b.origin.version, "reason": b.reason}
        for b in plugins.broken
    ]
    kinds: tuple[Brought[Any], ...] = (plugins.backends, plugins.parsers, plugins.commands)
    conflicts = [
        {"kind": brought.kind, "name": name, "by": [str(origin) for origin in origins]}
        for brought in kinds
        for name, origins in brought.conflicts.items()
    ]
    return {"plugins": rows, "broken": broken, "conflicts": conflicts}

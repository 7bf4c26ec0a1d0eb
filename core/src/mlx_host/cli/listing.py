"""`mlx-host plugins`: what is installed, what it brings, and what is broken."""

from __future__ import annotations

import json
from typing import Any

import rich_click as click
from rich.console import Console
from rich.table import Table

from mlx_host.cli.flags import flag_name
from mlx_host.plugins import Brought, Origin, Plugins


@click.command(name="plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.pass_obj
def plugins_command(plugins: Plugins, as_json: bool) -> None:
    """List the installed plugins, what each brings, and the broken ones with the reason."""
    if as_json:
        click.echo(json.dumps(describe(plugins), indent=2))
        return
    console = Console()
    table = Table("plugin", "distribution", "version", "brings", "options")
    for row in describe(plugins)["plugins"]:
        brings = [f"{kind} {name}" for kind in ("backend", "parser") for name in row[f"{kind}s"]] + row["hooks"]
        options = [flag_name(option) for options in row["backends"].values() for option in options]
        table.add_row(row["name"], row["distribution"], row["version"], "\n".join(brings), "\n".join(options))
    console.print(table)
    for broken in describe(plugins)["broken"]:
        console.print(
            f"[red]set aside:[/red] {broken['name']} of {broken['distribution']} {broken['version']}: ", end=""
        )
        console.print(broken["reason"], markup=False, highlight=False)
    for conflict in describe(plugins)["conflicts"]:
        console.print(
            f"[red]refused:[/red] {conflict['kind']} {conflict['name']!r} is brought by {' and '.join(conflict['by'])}"
        )


def describe(plugins: Plugins) -> dict[str, Any]:
    """Describe the plugins as JSON values."""
    rows = []
    for key, origin in plugins.loaded.items():
        backends = _of(plugins.backends, origin)
        rows.append(
            {
                "name": origin.name,
                "distribution": origin.distribution,
                "version": origin.version,
                "backends": {name: list(backend.options.model_fields) for name, backend in backends.items()},
                "parsers": sorted(_of(plugins.parsers, origin)),
                "hooks": [hook for hook in plugins.hooks_of(key) if not hook.startswith("register_")],
            }
        )
    broken = [
        {"name": b.origin.name, "distribution": b.origin.distribution, "version": b.origin.version, "reason": b.reason}
        for b in plugins.broken
    ]
    conflicts = [
        {"kind": kind, "name": name, "by": [str(origin) for origin in origins]}
        for kind, brought in (("backend", plugins.backends), ("parser", plugins.parsers))
        for name, origins in brought.conflicts.items()
    ]
    return {"plugins": rows, "broken": broken, "conflicts": conflicts}


def _of(brought: Brought[Any], origin: Origin) -> dict[str, Any]:
    return {name: thing for name, thing in brought.found.items() if brought.origins[name] == origin}

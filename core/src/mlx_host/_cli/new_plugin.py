"""`mlx-host plugins new`: a package to begin a plugin of one's own with, its contract test included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from string import Template

import rich_click as click

from mlx_host import __version__
from mlx_host._cli import templates
from mlx_host._plugins.manager import Plugins, parser_key
from mlx_host.errors import UsageError

KINDS = {"backend": templates.BACKEND, "parser": templates.PARSER}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@click.command(name="new")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), required=True, help="What the plugin brings.")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default=Path(),
    help="The folder to make the package's folder in; by default the working directory.",
)
@click.pass_obj
def new_command(plugins: Plugins, name: str, kind: str, into: Path) -> None:
    """Write a package that brings a backend or a parser called NAME, works as it is, and tests itself."""
    name = name.lower().replace("_", "-")
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a plugin's name: give letters, digits and hyphens, such as 'my-model'.")
    _refuse_taken(plugins, kind, name)
    distribution = f"mlx-host-{name}" if kind == "backend" else f"mlx-host-parser-{name}"
    folder = into / distribution
    if folder.exists():
        raise UsageError(f"{str(folder)!r} exists already; remove it, or choose another NAME or --into.")
    for path, text in _files(kind, name, distribution):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
        click.echo(f"wrote {folder / path}")
    click.echo(f"Install it, so that changes count at once: pip install --editable {folder}")


def _refuse_taken(plugins: Plugins, kind: str, name: str) -> None:
    brought = plugins.backends if kind == "backend" else plugins.parsers
    key = name if kind == "backend" else parser_key(name)
    brought.refuse_conflict(key)
    if key in brought.found:
        raise UsageError(f"There is a {kind} {name!r} already, brought by {brought.origins[key]}; choose another NAME.")


def _files(kind: str, name: str, distribution: str) -> Iterator[tuple[str, str]]:
    words = {
        "name": name,
        "key": parser_key(name),
        "title": "".join(word.capitalize() for word in name.split("-")),
        "kind": kind,
        "distribution": distribution,
        "module": distribution.replace("-", "_"),
        "version": __version__,
    }
    for path, text in {**templates.PACKAGE, **KINDS[kind]}.items():
        yield Template(path).substitute(words), Template(text).substitute(words)

"""`mlx-host plugins new`: creates a plugin package with a contract test."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

import rich_click as click

from mlx_host import __version__
from mlx_host._cli import templates
from mlx_host._plugins.checks import parser_key
from mlx_host._plugins.contract import contract_range
from mlx_host._plugins.manager import Plugins
from mlx_host._plugins.registry import Registry
from mlx_host.errors import UsageError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Kind:
    """A kind of plugin.

    `files` are those of the package, by path; `prefix` is that of the distribution. The name of the plugin, converted
    by `key`, must not exist in any of the `registries`.
    """

    files: Mapping[str, str]
    prefix: str
    registries: Callable[[Plugins], Sequence[Registry[Any]]]
    key: Callable[[str], str] = str


KINDS = {
    "backend": Kind(templates.BACKEND, "mlx-host-", lambda plugins: [plugins.backends]),
    "parser": Kind(templates.PARSER, "mlx-host-parser-", lambda plugins: [plugins.parsers], parser_key),
    "api": Kind(templates.API, "mlx-host-", lambda plugins: [plugins.apis, plugins.backends]),
}


@click.command(name="new")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), required=True, help="What the plugin provides.")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default=Path(),
    help="The folder in which to create the package. Defaults to the working directory.",
)
@click.pass_obj
def new_command(plugins: Plugins, name: str, kind: str, into: Path) -> None:
    """Create a working plugin package for a backend, a parser or an API named NAME, with tests."""
    given, name = name, name.lower().replace("_", "-")
    for prefix in (KINDS[kind].prefix, "mlx-host-"):
        name = name.removeprefix(prefix)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{given!r} is not a valid plugin name; use a letter, then letters, digits and hyphens, such as 'my-model'."
        )
    _check_free(plugins, kind, name)
    distribution = KINDS[kind].prefix + name
    folder = into / distribution
    if folder.exists():
        raise UsageError(f"{str(folder)!r} already exists; remove it, or use another NAME or --into.")
    for path, text in _files(kind, name, distribution):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
        click.echo(f"created {folder / path}")
    # uv creates environments without pip.
    pip = "pip" if find_spec("pip") else "uv pip"
    click.echo(f"Install it in editable mode: {pip} install --editable {shlex.quote(str(folder))}")


def _check_free(plugins: Plugins, kind: str, name: str) -> None:
    key = KINDS[kind].key(name)
    for registry in KINDS[kind].registries(plugins):
        registry.check(key)
        if key in registry.found:
            raise UsageError(f"{registry.kind} {name!r} already exists in {registry.owners[key]}; use another NAME.")


def _files(kind: str, name: str, distribution: str) -> Iterator[tuple[str, str]]:
    words = {
        "name": name,
        "key": parser_key(name),
        "title": "".join(word.capitalize() for word in name.split("-")),
        "kind": "API" if kind == "api" else kind,
        "distribution": distribution,
        "module": distribution.replace("-", "_"),
        "contract": contract_range(__version__),
    }
    for path, text in {**templates.PACKAGE, **KINDS[kind].files}.items():
        yield Template(path).substitute(words), Template(text).substitute(words)

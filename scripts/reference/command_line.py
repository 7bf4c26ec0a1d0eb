"""Generates the reference of the command line from the `--help` of each command."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import rich_click
from click.testing import CliRunner
from mlx_host._cli import build

from scripts.reference.installed import plugins


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

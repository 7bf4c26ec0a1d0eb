"""Core's plugin that registers the command `bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_host._bench.command import bench
from mlx_host.hookspecs import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def register_commands(cli: click.Group) -> None:
    cli.add_command(bench)

"""Core's own commands, registered through the same hook as a plugin's."""

from __future__ import annotations

import click

from mlx_host._cli import migration
from mlx_host._cli.completion import completion_command
from mlx_host._cli.doctor import doctor_command
from mlx_host._cli.explain_command import explain_command
from mlx_host._cli.new_plugin import new_command
from mlx_host._cli.parsers_command import parser_group, parsers_command
from mlx_host._cli.plugins_command import plugins_group
from mlx_host._cli.run import ALIAS, RunCommand
from mlx_host._cli.service import service_group
from mlx_host.hookspecs import hookimpl


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add core's commands."""
    plugins_group.add_command(new_command)
    cli.add_command(RunCommand())
    cli.add_command(RunCommand(ALIAS))
    cli.add_command(RunCommand(migration.COMMAND))
    for command in (
        *(plugins_group, parsers_command, parser_group, explain_command),
        *(doctor_command, service_group, completion_command),
    ):
        cli.add_command(command)
